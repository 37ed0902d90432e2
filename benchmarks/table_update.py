"""Does a training step cost more when its embedding table is larger?

    python -m benchmarks.table_update

Trains the model of configs/synthetic.py with the table of items at 10^5 and at 10^7 rows, in turns
within one process, on batches with equally many distinct ids, spread over the whole table. Prints
the medians and their ratio, by the clock and in processor time (which other work on the machine
disturbs less); takes about five minutes on two cores, and 4 GB of memory.
"""

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from configs import synthetic
from kunlun_jax.config import CHOICES, ExperimentConfig, experiment_config
from kunlun_jax.data import Batch, BatchSource, Dataset, Schema
from kunlun_jax.models.registry import create_model
from kunlun_jax.training.allocator import keep_freed_memory
from kunlun_jax.training.run import open_dataset
from kunlun_jax.training.step import TrainState, create_train_state, make_train_step

_SMALL = flags.DEFINE_integer("small", 100_000, "Rows of the small table.")
_LARGE = flags.DEFINE_integer("large", 10_000_000, "Rows of the large table.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds of which the median is printed.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps of each in a round.")
_DTYPE = flags.DEFINE_enum("table_dtype", "float32", CHOICES["dtype"], "Type of the tables.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "table_update.json"), "Where the JSON goes.")
ITEM = "item"
NUM_BATCHES = 8
NUM_STEPS = 1_000  # of the learning rate's schedule


def with_rows(schema: Schema, num_rows: int) -> Schema:
    """Return the schema with so many rows in the table of items, that of unknown ids included."""
    vocabularies = tuple(
        dataclasses.replace(v, num_ids=num_rows - 1) if v.name == ITEM else v
        for v in schema.vocabularies
    )
    return dataclasses.replace(schema, vocabularies=vocabularies)


def spread_ids(batch: Batch, stride: int) -> Batch:
    """Return the batch with its items spread over a table that is `stride` times as large."""
    stride = np.int32(stride)
    item = batch.sparse[ITEM].replace(ids=batch.sparse[ITEM].ids * stride)
    streams = {
        name: events.replace(ids={**events.ids, ITEM: events.ids[ITEM] * stride})
        for name, events in batch.streams.items()
    }
    return batch.replace(sparse={**batch.sparse, ITEM: item}, streams=streams)


class Contestant:
    """A model with a table of one size, and its state."""

    def __init__(self, config: ExperimentConfig, dataset: Dataset, num_rows: int) -> None:
        schema = with_rows(dataset.schema, num_rows)
        source = BatchSource(
            dataset,
            split="train",
            batch_size=config.data.batch_size,
            max_lens={s.name: s.max_len for s in config.model.streams},
        )
        stride = num_rows // dataset.schema.vocabulary_by_name[ITEM].num_rows
        self.num_rows = num_rows
        self._batches = [spread_ids(source[i], stride) for i in range(NUM_BATCHES)]
        model = create_model(config, schema)

        def initialize() -> TrainState:
            return create_train_state(model, config, self._batches[0], num_steps=NUM_STEPS)

        step = make_train_step(model, schema, config, num_steps=NUM_STEPS)
        self._step: Callable[[TrainState, Batch], TrainState] = jax.jit(step, donate_argnums=0)
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        self._state = jax.jit(initialize, out_shardings=device)()

    def seconds_per_step(self) -> tuple[float, float]:
        """Take some steps; return the mean time of one by the clock, and that of processors."""
        jax.block_until_ready(self._state)
        start, busy = time.perf_counter(), time.process_time()
        for number in range(_STEPS.value):
            self._state = self._step(self._state, self._batches[number % NUM_BATCHES])
        jax.block_until_ready(self._state)
        elapsed, worked = time.perf_counter() - start, time.process_time() - busy
        return elapsed / _STEPS.value, worked / _STEPS.value


def main(argv: list[str]) -> None:
    """Measure both in turns, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as directory:
        values = synthetic.get_config()
        values.data.directory = str(pathlib.Path(directory) / "data")
        values.optimizer.table_dtype = _DTYPE.value
        values.data.options.update(num_train=10_000, num_validation=100, num_test=100)
        config = experiment_config(values)
        dataset = open_dataset(config.data)
    contestants = [Contestant(config, dataset, rows) for rows in (_SMALL.value, _LARGE.value)]
    for contestant in contestants:
        contestant.seconds_per_step()  # compiles
    rounds = [[c.seconds_per_step() for c in contestants] for _ in range(_ROUNDS.value)]
    clock, processors = np.median(np.asarray(rounds), axis=0).T.tolist()
    ratio, processor_ratio = clock[1] / clock[0], processors[1] / processors[0]
    print(f"{'rows':>12} {'ms per step':>11} {'processor ms':>12}")
    for contestant, seconds, busy in zip(contestants, clock, processors, strict=True):
        print(f"{contestant.num_rows:>12,} {seconds * 1e3:>11.1f} {busy * 1e3:>12.1f}")
    print(f"{'ratio':>12} {ratio:>11.3f} {processor_ratio:>12.3f}")
    content = {
        "benchmark": "table_update",
        "batch_size": config.data.batch_size,
        "width": config.model.dim,
        "table_dtype": config.optimizer.table_dtype,
        "rows": [_SMALL.value, _LARGE.value],
        "median_seconds": clock,
        "median_processor_seconds": processors,
        "ratio": ratio,
        "processor_ratio": processor_ratio,
        "rounds": rounds,
        "environment": environment(("jax", "jaxlib", "numpy")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
