"""The working directory of a run: whose it is, and what is written into it."""

import json
import os
import pathlib
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from kunlun_jax.config import ExperimentConfig, to_mapping
from kunlun_jax.training.checkpoint import first_difference

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
# What may change between two starts of one run without changing its numbers.
FREE_SETTINGS = {("data", "prefetch"), ("data", "num_threads"), ("training", "keep_checkpoints")}


class WorkdirError(ValueError):
    """A working directory that cannot be used for this run."""


def open_workdir(path: str | os.PathLike[str], config: ExperimentConfig) -> pathlib.Path:
    """Make the directory of a run, or recognise it as the same run's.

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
    file = directory / CONFIG_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            strangers = sorted(p.name for p in directory.iterdir())
            if strangers:
                raise WorkdirError(
                    f"{directory}: expected an empty directory or one of a run (with "
                    f"{CONFIG_FILE}), got {strangers[0]!r}"
                )
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps(resolved, indent=1) + "\n")
            temporary.rename(file)
            return directory
        found = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkdirError(f"{directory}: cannot be used as workdir: {error}") from error
    difference = first_difference(_binding(found), _binding(resolved))
    if difference:
        where, expected, got = difference
        raise WorkdirError(
            f"{directory}: holds a run with config.{where} = {expected!r}, got {got!r}; choose "
            "another --workdir"
        )
    return directory


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
        """Continue the record of a run after a step; later lines of an earlier start are dropped.

        Args:
            directory: The working directory.
            from_step: Step at which the run continues; 0 begins anew.
        """
        self.path = directory / METRICS_FILE
        if self.path.exists():
            kept = [
                line
                for line in self.path.read_text().splitlines(keepends=True)
                if line.endswith("\n") and json.loads(line)["step"] <= from_step
            ]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(kept))
            temporary.rename(self.path)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=from_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step; NaN is written as null."""
        values = {k: float(v) if v == v else None for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for key, value in metrics.items():
            self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()
