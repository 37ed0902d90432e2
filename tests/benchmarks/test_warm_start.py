"""The week-by-week comparison, on a few days of synthetic data."""

import json

import numpy as np
import pytest

from benchmarks.as_tables import write_tables
from kunlun_jax.data import Dataset
from kunlun_jax.data.build import build_own_data, open_or_build
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.sources import SOURCES
from tests.processes import run_python


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    options = SOURCES["synthetic"].make_options(
        {"num_users": 100, "num_items": 500, "num_train": 6000, "num_validation": 200,
         "num_test": 200, "events_per_user": 64, "history_len": 32}
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("synthetic") / "data"
    return open_or_build("synthetic", options, directory)


def test_tables_have_what_the_data_set_has(dataset, tmp_path):
    schema = write_tables(dataset, tmp_path)
    files = {name: (tmp_path / f"{name}.parquet",) for name in ("impressions", *dataset.logs)}
    build_own_data(schema, Inputs(files), tmp_path / "built")
    built = Dataset.open(tmp_path / "built")
    counts = [sum(d.manifest["counts"]["rows"].values()) for d in (dataset, built)]
    assert counts[0] == counts[1] == 6400
    assert built.manifest["counts"]["events"] == dataset.manifest["counts"]["events"]
    for name in ("dense", "labels"):
        ours, theirs = (
            np.concatenate([getattr(e, name) for e in d.splits.values()]) for d in (dataset, built)
        )
        np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))


@pytest.mark.slow
def test_three_weeks(dataset, tmp_path, compilation_cache):
    moments = np.concatenate([e.request_times for e in dataset.splits.values()])
    first = np.datetime64(int(np.median(moments)), "s").astype("datetime64[D]")
    outcome = run_python(
        "-m",
        "benchmarks.warm_start",
        f"--dataset={dataset.directory}",
        f"--directory={tmp_path / 'weeks'}",
        f"--first={first}",
        "--weeks=3",
        "--examples=640",
        "--set=model.name='din'",
        "--set=model.dim=8",
        "--set=model.head_dims=(8,)",
        "--set=data.batch_size=16",
        f"--out={tmp_path / 'found.json'}",
        variables={"JAX_COMPILATION_CACHE_DIR": str(compilation_cache)},
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    cold, *rest = found["rows"]
    assert set(cold["models"]) == {"cold"}
    assert cold["cold"]["steps"] == 40
    for row in rest:
        assert set(row["models"]) == {"cold", "warm", "stale", "warm - cold"}
        assert row["warm"]["steps"] == 4
        assert row["requests"] > 10
    assert outcome.stdout.count("\n| 20") == 3
