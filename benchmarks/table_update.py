"""Does a training step cost more when its embedding tables are larger?

    python -m benchmarks.table_update

Trains the model of configs/synthetic.py with every table at 50,000 and at 5,000,000 rows, in turns
within one process, on batches with equally many distinct ids, spread over the whole table. Prints
the medians and their ratio; takes about three minutes on two cores, and 6 GB of memory.
"""

import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from configs import synthetic
from kunlun_jax.config import ExperimentConfig, experiment_config
from kunlun_jax.data import Batch, BatchSource, Dataset, Schema
from kunlun_jax.models.registry import create_model
from kunlun_jax.training.allocator import keep_freed_memory
from kunlun_jax.training.run import open_dataset
from kunlun_jax.training.step import TrainState, create_train_state, make_train_step

_SMALL = flags.DEFINE_integer("small", 50_000, "Rows of the small tables.")
_LARGE = flags.DEFINE_integer("large", 5_000_000, "Rows of the large tables.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds of which the median is printed.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps of each in a round.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "table_update.json"), "Where the JSON goes.")
NUM_BATCHES = 8
NUM_STEPS = 1_000  # of the learning rate's schedule


def with_rows(schema: Schema, num_rows: int) -> Schema:
    """Return the schema with every table, its row of unknown ids included, of that many rows."""
    vocabularies = tuple(dataclasses.replace(v, num_ids=num_rows - 1) for v in schema.vocabularies)
    return dataclasses.replace(schema, vocabularies=vocabularies)


def spread_ids(batch: Batch, stride: int) -> Batch:
    """Return the batch with its ids spread over a table that is `stride` times as large."""
    stride = np.int32(stride)
    sparse = {
        name: values.replace(ids=values.ids * stride) for name, values in batch.sparse.items()
    }
    streams = {
        name: events.replace(ids={key: ids * stride for key, ids in events.ids.items()})
        for name, events in batch.streams.items()
    }
    return batch.replace(sparse=sparse, streams=streams)


class Contestant:
    """A model with tables of one size, and its state."""

    def __init__(self, config: ExperimentConfig, dataset: Dataset, num_rows: int) -> None:
        schema = with_rows(dataset.schema, num_rows)
        source = BatchSource(
            dataset,
            split="train",
            batch_size=config.data.batch_size,
            max_lens={s.name: s.max_len for s in config.model.streams},
        )
        largest = max(v.num_rows for v in dataset.schema.vocabularies)
        self.num_rows = num_rows
        self._batches = [spread_ids(source[i], num_rows // largest) for i in range(NUM_BATCHES)]
        model = create_model(config, schema)

        def initialize() -> TrainState:
            return create_train_state(model, config, self._batches[0], num_steps=NUM_STEPS)

        step = make_train_step(model, schema, config, num_steps=NUM_STEPS)
        self._step: Callable[[TrainState, Batch], TrainState] = jax.jit(step, donate_argnums=0)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        self._state = jax.jit(initialize, out_shardings=device)()

    def seconds_per_step(self) -> float:
        """Take some steps and return the mean time of one."""
        jax.block_until_ready(self._state)
        start = time.perf_counter()
        for number in range(_STEPS.value):
            self._state = self._step(self._state, self._batches[number % NUM_BATCHES])
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / _STEPS.value


def main(argv: list[str]) -> None:
    """Measure both in turns, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as directory:
        values = synthetic.get_config()
        values.data.directory = str(pathlib.Path(directory) / "data")
        values.data.options.update(num_train=10_000, num_validation=100, num_test=100)
        config = experiment_config(values)
        dataset = open_dataset(config.data)
    contestants = [Contestant(config, dataset, rows) for rows in (_SMALL.value, _LARGE.value)]
    for contestant in contestants:
        contestant.seconds_per_step()  # compiles
    rounds = [[c.seconds_per_step() for c in contestants] for _ in range(_ROUNDS.value)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    ratio = medians[1] / medians[0]
    print(f"{'rows per table':>14} {'ms per step':>11}")
    for contestant, median in zip(contestants, medians, strict=True):
        print(f"{contestant.num_rows:>14,} {median * 1e3:>11.1f}")
    print(f"ratio {ratio:.3f}")
    content = {
        "benchmark": "table_update",
        "batch_size": config.data.batch_size,
        "rows": [_SMALL.value, _LARGE.value],
        "median_seconds": medians,
        "ratio": ratio,
        "rounds": rounds,
        "environment": environment(("jax", "jaxlib", "numpy")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
