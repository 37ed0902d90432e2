"""The working directory of a run: whose it is, who works in it, and what is written into it."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from kunlun_jax.config import (
    DATA_SETTINGS,
    FREE_SETTINGS,
    ExperimentConfig,
    in_current_form,
    to_mapping,
)
from kunlun_jax.files import (
    InUseError,
    discard_parts,
    first_difference,
    is_part_of,
    locked,
    publish,
)
from kunlun_jax.hosts.processes import is_first, together

CONFIG_FILE = "config.json"
_EARLIER_PART = "config.tmp"  # how earlier versions named a part of it
LOCK_FILE = "lock"
METRICS_FILE = "metrics.jsonl"
BEST_STEP = "best/step"  # marks the line of the final report

MetricListener = Callable[[int, Mapping[str, float]], None]  # takes a step and its metrics


class WorkdirError(ValueError):
    """A working directory that cannot be used for this run."""


@contextlib.contextmanager
def open_workdir(path: str | os.PathLike[str], config: ExperimentConfig) -> Iterator[pathlib.Path]:
    """Make the directory of a run, or recognise it as the same run's; nobody else may use it.

    Of several processes of one run, the first one holds it for all.

    A start that ended before it recorded anything, such as one with a mistake in its
    configuration, does not bind the next. Of one that did, the settings that change no number are
    free, and those that say where the data are are compared by what lies there (`run_data.py`):
    `keep_config` keeps them once it has turned out to be the same.

    Args:
        path: The directory.
        config: The run's configuration; kept in `config.json`.

    Yields:
        The directory, locked until the `with` block or the process ends.

    Raises:
        ProcessError: If it cannot be used by process 0, and this is another one.
        WorkdirError: If it cannot be made or written, holds something else or a run of another
            configuration, or is in use.
    """
    directory = pathlib.Path(path)
    resolved = _resolved(config)
    with contextlib.ExitStack() as stack:
        with together():
            if is_first():
                stack.enter_context(_held(directory, resolved))
        yield directory


def keep_config(directory: pathlib.Path, config: ExperimentConfig) -> None:
    """Keep the configuration of a start that has turned out to be of the run in a directory.

    Args:
        directory: What `open_workdir` gave.
        config: The run's configuration.

    Raises:
        WorkdirError: If it cannot be written.
    """
    try:
        _write_config(directory, _resolved(config))
    except OSError as error:
        raise WorkdirError(f"{directory}: cannot be used as workdir: {error}") from error


def read_note(path: pathlib.Path, keys: set[str]) -> dict[str, Any] | None:
    """Return what an earlier start has noted in a file; None where there is none.

    Args:
        path: The file, JSON.
        keys: What it has to have.

    Raises:
        WorkdirError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise WorkdirError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict) or not keys <= set(content):
        raise WorkdirError(f"{path}: expected {', '.join(sorted(keys))}, got {content!r:.60}")
    return content


def has_record(directory: pathlib.Path) -> bool:
    """Return whether a start has recorded anything in a working directory."""
    metrics = directory / METRICS_FILE
    return metrics.exists() and metrics.stat().st_size > 0


def has_report(directory: pathlib.Path) -> bool:
    """Return whether the run in a working directory has ended with its final report."""
    try:
        return f'"{BEST_STEP}"' in (directory / METRICS_FILE).read_text(errors="replace")
    except FileNotFoundError:
        return False


def _resolved(config: ExperimentConfig) -> dict[str, Any]:
    return json.loads(json.dumps(to_mapping(config)))


def _write_config(directory: pathlib.Path, resolved: dict[str, Any]) -> None:
    publish(directory / CONFIG_FILE, json.dumps(resolved, indent=1) + "\n")


@contextlib.contextmanager
def _held(directory: pathlib.Path, resolved: dict[str, Any]) -> Iterator[None]:
    file = directory / CONFIG_FILE
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                _require_empty(directory)
            stack.enter_context(_lock(directory))
            if file.exists():
                found = in_current_form(json.loads(file.read_text()))
                _require_same_run(directory, found, resolved)
                if has_record(directory):  # where its data are, until these turn out to be the same
                    kept = {key for _, key in DATA_SETTINGS} | {"num_epochs"}
                    data = {key: found["data"][key] for key in kept & found["data"].keys()}
                    resolved = {**resolved, "data": resolved["data"] | data}
            _write_config(directory, resolved)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise WorkdirError(f"{directory}: cannot be used as workdir: {error}") from error
        yield


@contextlib.contextmanager
def _lock(directory: pathlib.Path) -> Iterator[None]:
    """Hold the directory, and remove what a killed holder was writing."""
    try:
        with locked(directory / LOCK_FILE, wait=False):
            for name in (CONFIG_FILE, METRICS_FILE):
                discard_parts(directory / name)
            (directory / _EARLIER_PART).unlink(missing_ok=True)
            yield
    except InUseError as error:
        raise WorkdirError(f"{directory}: in use by {error}") from None


def _require_empty(directory: pathlib.Path) -> None:
    # A start that was killed may have left these.
    known = {_EARLIER_PART, LOCK_FILE}
    strangers = {
        path.name
        for path in directory.iterdir()
        if path.name not in known and not is_part_of(path, CONFIG_FILE)
    }
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
    before, after = binding(found), binding(resolved)
    if _schedule(found) == _schedule(resolved) == "constant":  # no step depends on the last one
        for settings in (before, after):
            settings["data"].pop("num_epochs", None)
    difference = first_difference(before, after)
    if difference and has_record(directory):
        where, expected, got = difference
        raise WorkdirError(
            f"{directory}: holds a run with config.{where} = {expected!r}, got {got!r}; choose "
            "another --workdir"
        )


def _schedule(values: dict[str, Any]) -> Any:
    optimizer = values["optimizer"]
    return optimizer.get("schedule") if isinstance(optimizer, dict) else None


def binding(values: dict[str, Any], where: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings that bind a run by themselves.

    Args:
        values: The settings of a group, as JSON.
        where: Path of the group.
    """
    found = {
        key: binding(value, (*where, key)) if isinstance(value, dict) else value
        for key, value in values.items()
        if (*where, key) not in FREE_SETTINGS | DATA_SETTINGS
    }
    if where == ("training",):
        # A weight of 1 says nothing, and earlier versions knew no others.
        weights = found.get("task_weights", {})
        if isinstance(weights, dict):
            found["task_weights"] = {name: x for name, x in weights.items() if x != 1}
    return found


class NoWriter:
    """What stands in for a `MetricWriter` on the processes that write nothing."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class MetricWriter:
    """Writes metrics to `metrics.jsonl`, one JSON object a line, and to TensorBoard.

    Both are written at once, in the caller's thread: where they cannot be, the caller hears of it.
    Whoever else is told (`training/tracking.py`) is told afterwards.

    Attributes:
        path: The JSON-lines file.
    """

    def __init__(
        self, directory: pathlib.Path, *, from_step: int, also: MetricListener | None = None
    ) -> None:
        """Continue the record of a run after a step.

        Later lines of an earlier start are dropped, and so is its final report, which follows
        again.

        Args:
            directory: The working directory.
            from_step: Step at which the run continues; 0 begins anew.
            also: Is told of everything that is written.

        Raises:
            WorkdirError: If the record is not one, or cannot be written.
        """
        self.path, self._also = directory / METRICS_FILE, also
        board = directory / "tensorboard"
        with self._explained():
            if self.path.exists():
                kept = [line for line in self._lines() if self._stays(line, from_step)]
                publish(self.path, "".join(kept))
            board.mkdir(exist_ok=True)
            self._file = self.path.open("a")
            self._board = EventsWriter(str(board / "events"))
            # TensorBoard forgets what an earlier start wrote of the steps that follow.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # type: ignore[attr-defined]
            self._write_event(from_step + 1, session_log=start)

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
        """Write the metrics of a step; NaN and infinity are written as null.

        Raises:
            WorkdirError: If they cannot be written.
        """
        values = {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
        with self._explained():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            for key, value in metrics.items():
                self._write_event(step, summary=scalar(key, value))
            self._board.flush()
        if self._also is not None:
            self._also(step, metrics)

    def close(self) -> None:
        """Close both."""
        with self._explained():
            try:
                self._file.close()
            finally:
                self._board.close()

    def _write_event(self, step: int, **content: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), step=step, **content)  # type: ignore[attr-defined]
        self._board.write_event(event)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkdirError(f"{self.path.parent}: metrics cannot be written: {error}") from error


def open_writer(
    directory: pathlib.Path, *, from_step: int, also: MetricListener | None = None
) -> MetricWriter | NoWriter:
    """Return what records the metrics of a run; all processes call this together.

    Args:
        directory: The working directory.
        from_step: As of `MetricWriter`.
        also: As of `MetricWriter`.

    Raises:
        WorkdirError: If the record is not one, or cannot be written.
    """
    with together():
        if not is_first():
            return NoWriter()
        return MetricWriter(directory, from_step=from_step, also=also)
