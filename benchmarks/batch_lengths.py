"""Would batches be shorter if they were cut to the longest history that they hold?

    python -m benchmarks.batch_lengths --config=configs/base.py

For every stream: the share of a batch's events that are real, and the share of training batches
whose longest history fits in a half or in three quarters of `max_len`. Batches are those of
training, in their order: a compiled shape for shorter batches pays where these shares are large.
"""

import sys
from typing import Any

import numpy as np
from absl import app
from ml_collections import config_flags

from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.config import experiment_config
from kunlun_jax.data import BatchSource
from kunlun_jax.data.opening import open_dataset

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=False)
_BATCHES = 400
_BUCKETS = (0.5, 0.75)


def shares(lengths: np.ndarray, max_len: int) -> dict[str, Any]:
    """Return what the lengths [batches, examples] of one stream tell."""
    longest = lengths.max(axis=1)
    return {
        "real_events": float(lengths.mean() / max_len),
        "batches_that_fit": {
            f"{bucket:g}": float(np.mean(longest <= bucket * max_len)) for bucket in _BUCKETS
        },
    }


def main(argv: list[str]) -> None:
    """Read batches, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    config = experiment_config(_CONFIG.value)
    dataset = open_dataset(config.data)
    max_lens = {stream.name: stream.max_len for stream in config.model.streams}
    source = BatchSource(
        dataset,
        split="train",
        batch_size=config.data.batch_size,
        max_lens=max_lens,
        shuffle=True,
        seed=config.data.seed,
    )
    batches = [source[i] for i in range(_BATCHES)]
    streams = {
        name: shares(np.stack([np.asarray(b.streams[name].lengths) for b in batches]), max_len)
        for name, max_len in max_lens.items()
    }
    print(f"{dataset.schema.name}: {_BATCHES} batches of {config.data.batch_size}")
    for name, row in streams.items():
        fits = ", ".join(f"{k} of max_len: {v:.1%}" for k, v in row["batches_that_fit"].items())
        print(f"{name:12} real events {row['real_events']:.1%}; batches that fit {fits}")
    content = {
        "benchmark": "batch_lengths",
        "command": " ".join(["python -m benchmarks.batch_lengths", *sys.argv[1:]]),
        "batches": _BATCHES,
        "batch_size": config.data.batch_size,
        "max_lens": max_lens,
        "streams": streams,
        "environment": environment(["jax", "numpy"]),
    }
    write_json(RESULTS / f"batch_lengths_{dataset.schema.name}.json", content)


if __name__ == "__main__":
    app.run(main)
