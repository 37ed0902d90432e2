"""Runs train.py with the small model, and causes a fault when it has come to a point.

python -m tests.faults.program POINT STEP FAULT train.py --config=...

POINT is "log" (a step was recorded), "saving" (a step is about to be saved), "save" (a save of the
step is under way), "read" (its checkpoint is about to be read) or "begin" (all is open, nothing is
compiled); FAULT is a signal's name, "fill", which fills the disk of the working directory,
"OSError" or "ValueError", which are raised, or several such, as in "fill,SIGTERM". "batch N NaN":
from step N on, training batches have NaN among their dense features. "none 0 none": no fault.
"""

import os
import pathlib
import runpy
import signal
import sys
import time

import numpy as np
import orbax.checkpoint as ocp

from kunlun_jax.data import BatchSource
from kunlun_jax.training import run
from kunlun_jax.training.checkpoint import DAMAGED, Checkpoints
from kunlun_jax.training.workdir import MetricWriter
from tests.faults.small_model import use_small_model


def fill_disk(directory: pathlib.Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**12))
        except OSError:
            return


def cause(faults: str, workdir: pathlib.Path) -> None:
    for name in faults.split(","):
        if name == "fill":
            fill_disk(workdir.parent)
        elif name == "OSError":
            raise OSError(5, "Input/output error")
        elif name == "ValueError":
            raise ValueError("the checksum of the storage library does not match")
        else:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(0.1)  # a signal is handled between two instructions, not at once


def arm(point: str, step: int, fault: str) -> None:
    """Cause the fault before or behind a method of the step."""
    owner, name = {
        "log": (MetricWriter, "write"),
        "saving": (Checkpoints, "save"),
        "save": (Checkpoints, "save"),
        "read": (ocp.CheckpointManager, "restore"),
    }[point]
    method = getattr(owner, name)

    def with_fault(self, at, *arguments, **options):
        path = self.path if point == "log" else self.directory
        now, before = int(getattr(at, "step", at)) == step, point in ("saving", "read")
        if point == "read":  # once it is set aside, another one takes its place
            now &= not (path.parent / DAMAGED / str(step)).exists()
        if now and before:
            cause(fault, path.parent)
        result = method(self, at, *arguments, **options)
        if now and not before:
            cause(fault, path.parent)
        return result

    setattr(owner, name, with_fault)


def poison(first: int) -> None:
    """Let the training batches from a step on have NaN among their dense features."""
    get = BatchSource.__getitem__

    def poisoned(self, record_key):
        batch = get(self, record_key)
        if "train" in repr(self) and record_key + 1 >= first:
            batch = batch.replace(dense=np.full_like(batch.dense, np.nan))
        return batch

    BatchSource.__getitem__ = poisoned


def main(arguments: list[str]) -> None:
    point, step, fault, program, *rest = arguments
    use_small_model()
    if point == "batch":
        poison(int(step))
    elif point == "begin":
        run.model_summary = lambda *_: cause(fault, pathlib.Path()) or "a small model"
    elif point != "none":
        arm(point, int(step), fault)
    sys.argv = [program, *rest]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
