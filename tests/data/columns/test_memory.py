"""Trains on a data set of twice the memory that the process may have."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from kunlun_jax.data import DenseFeature, EventId, EventStream, Schema, SparseFeature, Vocabulary
from kunlun_jax.data.building.directory import building_right
from kunlun_jax.data.building.shards import ShardSource
from kunlun_jax.data.building.writing import write_data_set
from kunlun_jax.data.tables import EventLog, Examples, Shard, SourceTables
from tests.faults.harness import ROOT
from tests.training.runs import records

LIMIT = 2_200_000_000  # bytes (RLIMIT_DATA); JAX and a small model reserve 1.8 GB, and use 0.7
EVENTS, USERS, SHARDS, ATTRIBUTES = 200, 800, 165, 40  # of a user, of a shard, of all, of an event
SCHEMA = Schema(
    name="wide",
    labels=("click",),
    dense=(),
    sparse=(SparseFeature("item", "item"),),
    streams=(
        EventStream(
            "view",
            ids=(EventId("item", "item"),),
            dense=tuple(DenseFeature(f"number_{i}") for i in range(ATTRIBUTES)),
            max_len=32,
        ),
    ),
    vocabularies=(Vocabulary("item", num_ids=100),),
    candidate=("item",),
)


def make_shard(number):
    rng, events = np.random.default_rng(number), USERS * EVENTS
    log = EventLog(
        offsets=np.arange(USERS + 1, dtype=np.int64) * EVENTS,
        times=np.tile(np.arange(EVENTS, dtype=np.int64) + 1_000_000, USERS),
        ids={"item": rng.integers(1, 101, events).astype(np.int32)},
        dense=np.tile(np.arange(events, dtype=np.float32)[:, None] % 7, ATTRIBUTES),
    )
    splits, rows = {}, {}
    for name, count in (("train", USERS), ("validation", 2), ("test", 2)):
        splits[name] = Examples(
            users=np.arange(count, dtype=np.int32),
            request_times=np.full(count, 2_000_000, np.int64),
            labels=(np.arange(count, dtype=np.float32) % 2)[:, None],
            weights=np.ones(count, np.float32),
            dense=np.zeros((count, 0), np.float32),
            sparse={"item": rng.integers(1, 101, (count, 1)).astype(np.int32)},
            sparse_lengths={"item": np.ones(count, np.int32)},
            ends={"view": np.full(count, EVENTS, np.int32)},
        )
        rows[name] = number * count + np.arange(count)
    users = number * USERS + np.arange(USERS, dtype=np.int32)
    return Shard(SourceTables(SCHEMA, USERS, {"view": log}, splits, {}), users, rows)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle_window", [0, 16_384])
def test_training_on_twice_the_memory(wide, tmp_path, shuffle_window):
    settings = [
        "model.dim=8", "model.head_dims=(8,)", "model.num_layers=1",
        "model.streams.view.num_layers=1", "model.streams.view.model_dim=8",
        "model.streams.view.max_len=32", "data.batch_size=64", "data.num_epochs=0.1",
        "data.eval_batch_size=64",
        f"data.shuffle_window={shuffle_window}",
    ]  # fmt: skip
    command = [sys.executable, "train.py", f"--config=configs/own_data.py:{wide}",
               f"--workdir={tmp_path / 'run'}", *(f"--config.{x}" for x in settings)]  # fmt: skip
    # Arrow's own allocator reserves a gigabyte that it does not use.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
        _, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors[-2000:]
    (columns,) = wide.glob("columns-*.bin")  # made by the first of these runs, under its limit
    assert columns.stat().st_size > 2 * LIMIT
    *_, last = records(tmp_path / "run")
    assert "test/normalized_entropy" in last


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wide") / "data"
    source = ShardSource(SCHEMA, USERS * SHARDS, SHARDS, make_shard)
    with building_right(directory):
        description = {"name": "wide", "version": 1, "options": {}}
        write_data_set(lambda _: source, directory, description, {}, SHARDS, 1)
    return directory
