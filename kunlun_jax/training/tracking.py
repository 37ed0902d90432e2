"""Metrics of a run in Weights & Biases and in MLflow, beside `metrics.jsonl`, which has them all.

A service is spoken to in a thread of its own, so that a slow one does not hold up a step. Whatever
goes wrong with it is one line on standard error, and it gets no more of this start; the run does
not notice. Only the process that writes metrics asks for one.
"""

import json
import math
import os
import pathlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tqdm import tqdm

from kunlun_jax.config import ExperimentConfig, SinkName, to_mapping
from kunlun_jax.files import publish
from kunlun_jax.training.workdir import read_note

DIRECTORY = "tracking"  # of the working directory: for every service, which run there is this one
_LAST_SECONDS = 60.0  # how long the end of a run waits for what is still on its way
_PARAMS_AT_ONCE = 100  # as many as an MLflow server takes


class Sink(Protocol):
    """A run in a service, new or gone on with."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step, all of them finite."""

    def close(self, *, failed: bool) -> None:
        """Say how the run ended, and wait until everything has been sent."""


class WandbSink:
    """A run in Weights & Biases."""

    def __init__(self, config: ExperimentConfig, workdir: pathlib.Path) -> None:
        """Begin the run, with its configuration, or go on with it.

        Args:
            config: The experiment.
            workdir: The working directory; what W&B keeps on the disk goes there, unless WANDB_DIR
                is set.
        """
        import wandb  # pyright: ignore[reportMissingImports]

        # The program's output stays its own; and nobody is asked for a key while it trains.
        settings = wandb.Settings(console="off", silent=True)
        wandb.setup(settings)
        note = _note(workdir, "wandb")
        self._run = wandb.init(
            project=config.tracking.project,
            name=_name(config, workdir),
            id=note,
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(workdir)),
            config=None if note else _flat(to_mapping(config)),
            settings=settings,
        )
        # A run that goes on repeats steps, and W&B's own count of them only grows.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        if not note:
            _keep_note(workdir, "wandb", self._run.id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step."""
        self._run.log({"step": step, **metrics})

    def close(self, *, failed: bool) -> None:
        """Finish the run."""
        self._run.finish(exit_code=int(failed))


class MlflowSink:
    """A run in MLflow, on the server or in the folder that MLFLOW_TRACKING_URI names."""

    def __init__(self, config: ExperimentConfig, workdir: pathlib.Path) -> None:
        """Begin the run, with its configuration, or go on with it.

        Args:
            config: The experiment.
            workdir: The working directory.
        """
        import mlflow.entities  # pyright: ignore[reportMissingImports]

        self._metric, self._client = mlflow.entities.Metric, mlflow.MlflowClient()
        note = _note(workdir, "mlflow")
        if note:
            self._id = note
            self._client.update_run(note, status="RUNNING")
            return
        project = config.tracking.project
        experiment = self._client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(project)
        name = _name(config, workdir)
        self._id = self._client.create_run(number, run_name=name).info.run_id
        settings = [
            mlflow.entities.Param(key, str(value))
            for key, value in _flat(to_mapping(config)).items()
        ]
        for start in range(0, len(settings), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=settings[start : start + _PARAMS_AT_ONCE])
        _keep_note(workdir, "mlflow", self._id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of a step."""
        now = int(time.time() * 1000)
        values = [self._metric(key, value, now, step) for key, value in metrics.items()]
        self._client.log_batch(self._id, metrics=values)

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._id, status="FAILED" if failed else "FINISHED")


SINKS: dict[str, Callable[[ExperimentConfig, pathlib.Path], Sink]] = {
    "wandb": WandbSink,
    "mlflow": MlflowSink,
}


class Tracker:
    """Sends the metrics of a run to the services of `config.tracking`; none is asked before."""

    def __init__(self, config: ExperimentConfig, workdir: pathlib.Path) -> None:
        """Remember what the services need.

        Args:
            config: The experiment.
            workdir: The working directory.
        """
        self._config, self._workdir = config, workdir
        self._threads: list[_Thread] | None = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send metrics of a step; those that are NaN or infinite are left out."""
        if self._threads is None:
            names = sorted(set(self._config.tracking.sinks))
            self._threads = [_Thread(name, self._config, self._workdir) for name in names]
        finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        for thread in self._threads:
            thread.send(step, finite)

    def close(self, *, failed: bool = False) -> None:
        """Wait, for a while, until everything has been sent.

        Args:
            failed: Whether the run ended with an error.
        """
        threads, self._threads = self._threads or [], None
        deadline = time.monotonic() + _LAST_SECONDS
        for thread in threads:
            thread.end(failed=failed)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                thread.warn(f"no end within {_LAST_SECONDS:.0f} s")


class _Thread(threading.Thread):
    """Speaks to one service, in the order in which it is asked to."""

    def __init__(self, sink: SinkName, config: ExperimentConfig, workdir: pathlib.Path) -> None:
        super().__init__(name=f"tracking-{sink}", daemon=True)
        self._sink, self._config, self._workdir = sink, config, workdir
        # (step, metrics), and at the end whether the run failed.
        self._waiting: queue.SimpleQueue[tuple[int, Mapping[str, float]] | bool] = (
            queue.SimpleQueue()
        )
        self.start()

    def send(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.is_alive():  # else it has said why
            self._waiting.put((step, metrics))

    def end(self, *, failed: bool) -> None:
        self._waiting.put(failed)

    def run(self) -> None:
        try:
            sink = SINKS[self._sink](self._config, self._workdir)
            while not isinstance(item := self._waiting.get(), bool):
                sink.log(*item)
            sink.close(failed=item)
        except ModuleNotFoundError as error:
            self.warn(f"{error}: pip install 'kunlun_jax[{self._sink}]'")
        except BaseException as error:  # a library that ends the program is no reason to
            said = str(error)
            self.warn(f"{type(error).__name__}{said and f': {said}'}")

    def warn(self, message: str) -> None:
        text = f"tracking by {self._sink} ends: {message}"
        text = f"warning: {' '.join(text.split()):.300}; the run goes on, and metrics.jsonl has all"
        tqdm.write(text, file=sys.stderr)  # not into the progress bar


def _name(config: ExperimentConfig, workdir: pathlib.Path) -> str:
    return config.tracking.run_name or workdir.resolve().name


def _note(workdir: pathlib.Path, sink: SinkName) -> str | None:
    """Return which run of a service is that of a working directory; None: there is none yet."""
    note = read_note(workdir / DIRECTORY / f"{sink}.json", {"run"})
    return None if note is None else str(note["run"])


def _keep_note(workdir: pathlib.Path, sink: SinkName, run: str) -> None:
    (workdir / DIRECTORY).mkdir(exist_ok=True)
    publish(workdir / DIRECTORY / f"{sink}.json", json.dumps({"run": run}) + "\n")


def _flat(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{where}{key}.")
        else:
            found[f"{where}{key}"] = value
    return found
