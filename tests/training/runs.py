"""Reads what a run leaves behind, to compare one run with another."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

# The clock is in these; every other number of a run is reproducible.
TIMED = (
    "time/", "train/examples_per_", "train/model_gflops_per_second", "train/mfu",
)  # fmt: skip


def records(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without what the clock says."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith(TIMED)} for line in lines
    ]


def assert_equal_states(actual: Any, expected: Any) -> None:
    """Compare two states bit by bit."""
    paths = jax.tree_util.tree_leaves_with_path(expected)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, wanted), got in zip(paths, jax.tree.leaves(actual), strict=True):
        assert got.dtype == wanted.dtype, jax.tree_util.keystr(path)
        a, b = np.asarray(got), np.asarray(wanted)
        assert a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)
