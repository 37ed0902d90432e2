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
from typing import get_args

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

import numpy as np  # noqa: E402
from absl import app, flags  # noqa: E402

from benchmarks.report import RESULTS, environment, write_json  # noqa: E402
from benchmarks.step_times import Contestant, in_turns, train_batches  # noqa: E402
from configs import synthetic  # noqa: E402
from kunlun_jax.config import DType, experiment_config  # noqa: E402
from kunlun_jax.data import Batch, Schema  # noqa: E402
from kunlun_jax.training.run import open_dataset  # noqa: E402

_SMALL = flags.DEFINE_integer("small", 100_000, "Rows of the small table.")
_LARGE = flags.DEFINE_integer("large", 10_000_000, "Rows of the large table.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds of which the median is printed.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps of each in a round.")
_DTYPE = flags.DEFINE_enum("table_dtype", "float32", get_args(DType), "Type of the tables.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "table_update.json"), "Where the JSON goes.")
ITEM = "item"
NUM_BATCHES = 8


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


def main(argv: list[str]) -> None:
    """Measure both in turns, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    with tempfile.TemporaryDirectory() as directory:
        values = synthetic.get_config()
        values.data.directory = str(pathlib.Path(directory) / "data")
        values.optimizer.table_dtype = _DTYPE.value
        values.data.options.update(num_train=10_000, num_validation=100, num_test=100)
        config = experiment_config(values)
        dataset = open_dataset(config.data)
    batches = train_batches(config, dataset, NUM_BATCHES)
    sizes = (_SMALL.value, _LARGE.value)
    own_rows = dataset.schema.vocabulary_by_name[ITEM].num_rows
    contestants = [
        Contestant(
            config,
            with_rows(dataset.schema, num_rows),
            [spread_ids(batch, num_rows // own_rows) for batch in batches],
        )
        for num_rows in sizes
    ]
    rounds = in_turns(contestants, rounds=_ROUNDS.value, steps=_STEPS.value)
    clock, processors = np.median(rounds, axis=0).T.tolist()
    ratio, processor_ratio = clock[1] / clock[0], processors[1] / processors[0]
    print(f"{'rows':>12} {'ms per step':>11} {'processor ms':>12}")
    for num_rows, seconds, busy in zip(sizes, clock, processors, strict=True):
        print(f"{num_rows:>12,} {seconds * 1e3:>11.1f} {busy * 1e3:>12.1f}")
    print(f"{'ratio':>12} {ratio:>11.3f} {processor_ratio:>12.3f}")
    content = {
        "benchmark": "table_update",
        "batch_size": config.data.batch_size,
        "width": config.model.dim,
        "table_dtype": config.optimizer.table_dtype,
        "rows": sizes,
        "median_seconds": clock,
        "median_processor_seconds": processors,
        "ratio": ratio,
        "processor_ratio": processor_ratio,
        "rounds": rounds.tolist(),
        "environment": environment(("jax", "jaxlib", "numpy")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
