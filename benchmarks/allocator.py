"""What `keep_freed_memory` is worth: page faults and time of a training step, with and without.

    python -m benchmarks.allocator

Trains the model of configs/synthetic.py in two processes in turns, because the setting is the
process's; prints page faults, system time and wall time per step, medians over rounds. Takes about
three minutes on two cores.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from kunlun_jax.training.allocator import keep_freed_memory

if "--keep=True" in sys.argv:  # before JAX is imported
    keep_freed_memory()

import jax
from absl import app, flags

from benchmarks.report import RESULTS, ROOT, environment, write_json
from configs import synthetic
from kunlun_jax.config import experiment_config
from kunlun_jax.data import BatchSource
from kunlun_jax.models.registry import create_model
from kunlun_jax.training.run import open_dataset
from kunlun_jax.training.step import create_train_state, make_train_step

_ROUNDS = flags.DEFINE_integer("rounds", 10, "Rounds of which the median is printed.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps of each in a round.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "allocator.json"), "Where the JSON goes.")
_WORKER = flags.DEFINE_string("worker", None, "For internal use: the data set of a worker.")
_KEEP = flags.DEFINE_boolean("keep", False, "For internal use: whether the worker keeps memory.")
MEASURES = ("page faults", "system ms", "wall ms")
NUM_STEPS = 1_000  # of the learning rate's schedule


def work(directory: str) -> None:
    """Take steps whenever a line comes in; answer with faults, system and wall time of a step."""
    config = experiment_config(_config(directory))
    dataset = open_dataset(config.data)
    source = BatchSource(
        dataset,
        split="train",
        batch_size=config.data.batch_size,
        max_lens={s.name: s.max_len for s in config.model.streams},
    )
    batches = [source[number] for number in range(8)]
    model = create_model(config, dataset.schema)
    step = jax.jit(
        make_train_step(model, dataset.schema, config, num_steps=NUM_STEPS), donate_argnums=0
    )
    state = step(create_train_state(model, config, batches[0], num_steps=NUM_STEPS), batches[0])
    print("ready", flush=True)
    for _ in sys.stdin:
        jax.block_until_ready(state)
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for number in range(_STEPS.value):
            state = step(state, batches[number % len(batches)])
        jax.block_until_ready(state)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        totals = (
            after.ru_minflt - before.ru_minflt,
            1e3 * (after.ru_stime - before.ru_stime),
            1e3 * seconds,
        )
        print(json.dumps([total / _STEPS.value for total in totals]), flush=True)


def _config(directory: str) -> Any:
    config = synthetic.get_config()
    config.data.directory = directory
    config.data.options.update(num_train=10_000, num_validation=100, num_test=100)
    return config


class Worker:
    """A process that takes steps on request."""

    def __init__(self, directory: str, *, keep: bool) -> None:
        program = [sys.executable, "-m", "benchmarks.allocator", f"--worker={directory}"]
        self._process = subprocess.Popen(
            [*program, f"--keep={keep}", f"--steps={_STEPS.value}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with code {self._process.wait()}")
        return line.strip()

    def measure(self) -> list[float]:
        """Return the MEASURES, per step."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(argv: list[str]) -> None:
    """Measure both in turns, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _WORKER.value is not None:
        work(_WORKER.value)
        return
    with tempfile.TemporaryDirectory() as directory:
        data = str(pathlib.Path(directory) / "data")
        open_dataset(experiment_config(_config(data)).data)
        workers = {keep: Worker(data, keep=keep) for keep in (False, True)}
        for worker in workers.values():
            worker.measure()  # warms up
        rounds = [
            {keep: worker.measure() for keep, worker in workers.items()}
            for _ in range(_ROUNDS.value)
        ]
        for worker in workers.values():
            worker.close()
    print(f"{'keep_freed_memory':<18}" + "".join(f"{name:>13}" for name in MEASURES))
    medians = {}
    for keep in workers:
        columns = zip(*(one[keep] for one in rounds), strict=True)
        medians[str(keep)] = dict(zip(MEASURES, map(statistics.median, columns), strict=True))
        print(
            f"{keep!s:<18}" + "".join(f"{value:>13,.1f}" for value in medians[str(keep)].values())
        )
    content = {
        "benchmark": "allocator",
        "medians_per_step": medians,
        "environment": environment(("jax", "jaxlib")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
