"""Rows that are moved from one table into another; and by two processes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.tables.layout import row_of, stored_rows
from kunlun_jax.training import other_run
from kunlun_jax.training.other_run import grown
from tests import processes
from tests.documents import ROOT


def rows_of(table, ids, rows):
    return np.asarray(table)[np.asarray(row_of(jnp.asarray(ids), rows))]


@pytest.mark.parametrize(
    ("known", "rows"), [(5, 9), (7, 7), (100, 20_000), (16_383, 16_384), (20_000, 40_000)]
)
@pytest.mark.parametrize("width", [None, 3])
def test_rows_keep_their_ids_in_every_layout(monkeypatch, known, rows, width):
    monkeypatch.setattr(other_run, "_IDS", 4096)  # several pieces, the last one not full
    shape = () if width is None else (width,)
    old, fresh = (
        np.random.default_rng(seed).normal(size=(stored_rows(n), *shape)).astype(np.float32)
        for seed, n in ((0, known), (1, rows))
    )
    with jax.set_mesh(jax.make_mesh((1,), ("data",))):
        found = grown(jnp.asarray(old), jnp.asarray(fresh), known=known, rows=rows)
    ids = np.arange(rows)
    expected = np.where(
        (ids < known).reshape(-1, *(1,) * len(shape)),
        rows_of(old, np.minimum(ids, known - 1), known),
        rows_of(fresh, ids, rows),
    )
    np.testing.assert_array_equal(rows_of(found, ids, rows), expected)


@pytest.mark.slow
def test_two_processes_begin_and_train_together(tmp_path, finished_runs):
    """By train.py, with rows of tables split over both; both say the same."""
    data = finished_runs[0].parent / "data"
    command = [
        ROOT / "train.py",
        f"--config={ROOT / 'tests' / 'training' / 'tiny.py'}",
        "--config.model.name=din",
        f"--config.data.directory={data}",
        f"--workdir={tmp_path / 'run'}",
        f"--init_from={finished_runs[0]}",
        "--init_optimizer=keep",
    ]
    ends = processes.finish(processes.start([list(map(str, command))] * 2, devices=2))
    assert [end[0] for end in ends] == [0, 0], ends[0][2] + ends[1][2]
    assert "table item: 51 rows taken, as it was" in ends[0][1]
    assert "optimizer: moments and sums taken; the schedule begins anew" in ends[0][1]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["best/step"] > 0
