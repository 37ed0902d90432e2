"""Thousands of damaged inputs: each ends in an error of this project's own or in a right answer.

    python -m pytest tests/faults/test_fuzz.py -m slow

A few of every kind run without the flag.
"""

import functools

import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.data import DatasetError, RequestError, SchemaError
from kunlun_jax.training.workdir import WorkdirError
from tests.faults import fuzz_targets as targets
from tests.faults.fuzzing import count_refused

# What is damaged; errors that are clean; inputs of the quick part; inputs of the long part.
TARGETS = {
    "shard files": (targets.shard_files, (DatasetError,), 60, 1000),
    "blocks of shards": (targets.blocks_of_shards, (DatasetError,), 100, 2000),
    "files of columns": (targets.files_of_columns, (DatasetError,), 30, 500),
    "dataset.json": (targets.manifests, (DatasetError,), 60, 1000),
    "bytes of dataset.json": (targets.manifest_files, (DatasetError,), 30, 1000),
    "configurations": (targets.configurations, (ConfigError,), 150, 5000),
    "configuration files": (targets.configuration_files, (ConfigError,), 20, 1000),
    "working directories": (targets.working_directories, (WorkdirError,), 30, 1000),
    "CSV tables": (functools.partial(targets.tables, views="views.csv"), (SchemaError,), 4, 200),
    "Parquet tables": (
        functools.partial(targets.tables, views="views.parquet"),
        (SchemaError,),
        4,
        200,
    ),
    "checkpoints": (targets.checkpoints, (DatasetError,), 4, 150),
    "requests": (targets.requests, (RequestError,), 150, 5000),
    "runs of configurations": (targets.runs_of_configurations, (ConfigError,), 0, 200),
}


@pytest.mark.parametrize("target", [name for name in TARGETS if TARGETS[name][2]])
def test_a_few(tmp_path, target):
    make, clean, number, _ = TARGETS[target]
    count_refused(make(tmp_path), number, clean)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        pytest.param(
            name,
            id=name,
            marks=pytest.mark.fault(
                f"random damage of {name}, {TARGETS[name][3]} times",
                "each a clean error or the right answer",
            ),
        )
        for name in TARGETS
    ],
)
def test_thousands(tmp_path, target, observe_text):
    make, clean, _, number = TARGETS[target]
    refused = count_refused(make(tmp_path), number, clean)
    assert refused > 0
    observe_text(f"{refused} refused, {number - refused} right")
