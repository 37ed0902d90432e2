"""The working directory of a run: whose it is, and what is written into it."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tensorboardX import SummaryWriter

from kunlun_jax.config import ExperimentConfig, to_mapping
from kunlun_jax.training.checkpoint import first_difference

CONFIG_FILE = "config.json"
TEMPORARY_CONFIG_FILE = "config.tmp"
METRICS_FILE = "metrics.jsonl"
BEST_STEP = "best/step"  # marks the line of the final report
# What may change between two starts of one run without changing its numbers.
FREE_SETTINGS = {("data", "prefetch"), ("data", "num_threads"), ("training", "keep_checkpoints")}


class WorkdirError(ValueError):
    """A working directory that cannot be used for this run."""


def open_workdir(path: str | os.PathLike[str], config: ExperimentConfig) -> pathlib.Path:
    """Make the directory of a run, or recognise it as the same run's.

    A start that ended before it recorded anything, such as one with a mistake in its
    configuration, does not bind the next.

    Args:
        path: The directory.
        config: The run's configuration; kept in `config.json`.

    Returns:
        The directory.

    Raises:
        WorkdirError: If it cannot be made, holds something else, or a run of another configuration.
    """
    directory = pathlib.Path(path)
    resolved = json.loads(json.dumps(to_mapping(config)))
    file, temporary = directory / CONFIG_FILE, directory / TEMPORARY_CONFIG_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if file.exists():
            _require_same_run(directory, json.loads(file.read_text()), resolved)
        else:
            _require_empty(directory)
        temporary.write_text(json.dumps(resolved, indent=1) + "\n")
        temporary.rename(file)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkdirError(f"{directory}: cannot be used as workdir: {error}") from error
    return directory


def _require_empty(directory: pathlib.Path) -> None:
    # A start that was killed may have left the temporary file.
    strangers = {path.name for path in directory.iterdir()} - {TEMPORARY_CONFIG_FILE}
    if strangers:
        raise WorkdirError(
            f"{directory}: expected an empty directory or one of a run (with {CONFIG_FILE}), got "
            f"{min(strangers)!r}"
        )


def _require_same_run(directory: pathlib.Path, found: Any, resolved: dict[str, Any]) -> None:
    if not isinstance(found, dict) or set(found) != set(resolved):
        raise WorkdirError(
            f"{directory / CONFIG_FILE}: expected the configuration of a run, with "
            f"{sorted(resolved)}, got another file"
        )
    difference = first_difference(_binding(found), _binding(resolved))
    metrics = directory / METRICS_FILE
    if difference and metrics.exists() and metrics.stat().st_size:
        where, expected, got = difference
        raise WorkdirError(
            f"{directory}: holds a run with config.{where} = {expected!r}, got {got!r}; choose "
            "another --workdir"
        )


def _binding(config: dict) -> dict:
    return {
        section: (
            {k: v for k, v in values.items() if (section, k) not in FREE_SETTINGS}
            if isinstance(values, dict)
            else values
        )
        for section, values in config.items()
    }


class MetricWriter:
    """Writes metrics to `metrics.jsonl`, one JSON object a line, and to TensorBoard.

    Attributes:
        path: The JSON-lines file.
    """

    def __init__(self, directory: pathlib.Path, *, from_step: int) -> None:
        """Continue the record of a run after a step.

        Later lines of an earlier start are dropped, and so is its final report, which follows
        again.

        Args:
            directory: The working directory.
            from_step: Step at which the run continues; 0 begins anew.

        Raises:
            WorkdirError: If the record is not one.
        """
        self.path = directory / METRICS_FILE
        if self.path.exists():
            kept = [line for line in self._lines() if self._stays(line, from_step)]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(kept))
            temporary.rename(self.path)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=from_step + 1)

    def _lines(self) -> list[str]:
        """Return the lines of the file; the last one may have been cut off by a kill."""
        lines = self.path.read_text(errors="replace").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]

    def _stays(self, line: str, from_step: int) -> bool:
        try:
            record = json.loads(line)
            return record["step"] <= from_step and BEST_STEP not in record
        except (ValueError, KeyError, TypeError) as error:
            raise WorkdirError(
                f"{self.path}: expected JSON objects with a step, got {line.strip()!r:.60}"
            ) from error

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step; NaN and infinity are written as null."""
        values = {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for key, value in metrics.items():
            self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()
