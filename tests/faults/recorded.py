"""Runs `program.py` and writes down, for every step, which training examples the step got.

python -m tests.faults.recorded FILE POINT STEP FAULT train.py --config=...

FILE gets a line of JSON for every step: the rows of its examples in the training split.
"""

import json
import pathlib
import sys

import numpy as np
from jax.experimental import multihost_utils

from kunlun_jax.data import BatchSource
from kunlun_jax.data.opening import open_dataset
from kunlun_jax.data.reading.gather import Columns
from kunlun_jax.hosts.processes import is_first, several
from kunlun_jax.training.loop import Trainer
from tests.faults import program


def rows_for_users(batch):
    """Return `Columns.batch` with the row of every example in place of its user."""

    def batch_of_rows(self, rows, real, max_lens):
        return batch(self, rows, real, max_lens).replace(user_ids=rows.astype(np.int32))

    return batch_of_rows


def training_rows(patch, config):
    """Return the training batches of a run, in its order, with the rows of examples as users."""
    patch.setattr(Columns, "batch", rows_for_users(Columns.batch))
    return BatchSource(
        open_dataset(config.data),
        split="train",
        batch_size=config.data.batch_size,
        max_lens={},
        seed=config.data.seed,
    )


def recording(run, file):
    """Return `Trainer.run` with the users of every step's batch written down."""

    def recorded_run(self, state):
        train_step = self.train_step

        def recorded_step(state, batch):
            rows = batch.user_ids
            if several():
                rows = multihost_utils.process_allgather(rows, tiled=True)
            if is_first():
                with file.open("a") as lines:
                    lines.write(json.dumps(np.asarray(rows).tolist()) + "\n")
            return train_step(state, batch)

        self.train_step = recorded_step
        return run(self, state)

    return recorded_run


if __name__ == "__main__":
    _, path, *sys.argv[1:] = sys.argv
    Columns.batch = rows_for_users(Columns.batch)
    Trainer.run = recording(Trainer.run, pathlib.Path(path))
    program.main(sys.argv[1:])
