"""What stays of finished runs: one file a study, from which every table and plot is made.

`runs.jsonl` has a line for every run, and a line for what runs have in common. A run's line says
what was run, where, and what came out. Of its configuration, data set, environment and command it
holds only what differs from the line of common values that it names:

    {"common": "1f0c5a7b", "config": {...}, "dataset": {...}, "environment": {...}, "command": ...}
    {"name": "din_seed0", "of": "1f0c5a7b", "config": {"model": {"name": "din"}}, ...}

Common values are named by their checksum, so that the lines of several machines may be joined in
any order, by `cat`, by `sort -u` or by a merge of branches. A run's line also holds NE and AUC of
bootstrap resamples of the test users (an .npz archive in base64), the same resamples for all runs
of one data set, so that any two runs can be compared pairwise. Nothing in the file says anything
about a single user or example: records of data that may not be redistributed can be published.
"""

import base64
import dataclasses
import hashlib
import io
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from kunlun_jax.metrics.comparison import METRICS
from kunlun_jax.shapes import Float
from kunlun_jax.training.workdir import WorkdirError

# Large, and nearly the same for all runs of a study.
_COMMON = ("config", "dataset", "environment", "command")
_DAMAGES = (
    EOFError,
    OSError,
    TypeError,
    ValueError,
    LookupError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        content: What was run, where, and what came out; its "name" is the run's.
        resampled: By metric: the value on the test split, then on every resample of its users; the
            mean over tasks.
    """

    content: dict[str, Any]
    resampled: dict[str, Float[np.ndarray, "draws"]]

    def same_as(self, other: "Record") -> bool:
        """Return whether another record says the same."""
        return self.content == other.content and all(
            np.array_equal(values, other.resampled[metric])
            for metric, values in self.resampled.items()
        )

    def value(self, metric: str) -> float:
        """Return a metric of the test split."""
        return float(self.resampled[metric][0])

    def standard_error(self, metric: str) -> float:
        """Return the standard deviation of a metric over resamples of the users."""
        return float(self.resampled[metric][1:].std(ddof=1))


def encode(path: pathlib.Path, before: bytes, record: Record) -> bytes:
    """Return a record's line, after one of common values where no line of the file will do.

    Args:
        path: The file, for messages.
        before: Its content.
        record: The record.

    Raises:
        WorkdirError: If a line is damaged.
    """
    commons = _commons(_lines(path, before))
    varied = {key: record.content[key] for key in _COMMON if key in record.content}
    lines: list[str] = []
    found = ((name, _changes(varied, common)) for name, common in commons.items())
    name, changes = next((each for each in found if each[1] is not None), ("", None))
    if changes is None:
        name, changes = _checksum(varied), {}
        lines.append(json.dumps({"common": name, **varied}) + "\n")
    archive = io.BytesIO()
    np.savez_compressed(archive, allow_pickle=False, **record.resampled)
    own = {key: value for key, value in record.content.items() if key not in _COMMON}
    resampled = base64.b64encode(archive.getvalue()).decode()
    line = {"name": own.pop("name"), "of": name, **own, **changes, "resampled": resampled}
    return "".join([*lines, json.dumps(line) + "\n"]).encode()


def decode(path: pathlib.Path, content: bytes) -> dict[str, Record]:
    """Return the records of a file by name of the run.

    Args:
        path: The file, for messages.
        content: Its content.

    Raises:
        WorkdirError: If a line is damaged, or there are two different records of a run.
    """
    lines = _lines(path, content)
    commons = _commons(lines)
    records: dict[str, Record] = {}
    first: dict[str, int] = {}
    for line_number, line in lines:
        if "common" in line:
            continue
        common = commons.get(line["of"])
        if common is None:
            raise WorkdirError(
                f"{path}, line {line_number}: expected common values {line['of']!r} on a line "
                "of their own, got none"
            )
        record, name = _decode(path, line_number, line, common), line["name"]
        first.setdefault(name, line_number)
        if not record.same_as(records.setdefault(name, record)):
            raise WorkdirError(
                f"{path}, line {line_number}: expected one record of {name}, got another than "
                f"on line {first[name]}; remove one of them"
            )
    return records


def _commons(lines: list[tuple[int, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {line["common"]: _without(line, "common") for _, line in lines if "common" in line}


def _lines(path: pathlib.Path, content: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return the number and content of every line; each is a record's or of common values."""
    lines = []
    for line_number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            if not isinstance(line, dict):
                raise TypeError(f"got {type(line).__name__}")
            if "common" in line:
                common = _without(line, "common")
                if line["common"] != _checksum(common) or not isinstance(common["config"], dict):
                    raise ValueError("common values that are not as they were written")
            elif not isinstance(line["name"], str) or not isinstance(line["of"], str):
                raise ValueError("no name of a run")
        except _DAMAGES as error:
            raise _damaged(path, line_number, error) from error
        lines.append((line_number, line))
    return lines


def _decode(
    path: pathlib.Path, line_number: int, line: dict[str, Any], common: dict[str, Any]
) -> Record:
    try:
        archive = io.BytesIO(base64.b64decode(line["resampled"], validate=True))
        with np.load(archive, allow_pickle=False) as arrays:
            resampled = {metric: arrays[metric] for metric in METRICS}
    except _DAMAGES as error:
        raise _damaged(path, line_number, error) from error
    own = {key: value for key, value in line.items() if key not in ("of", "resampled")}
    return Record(_changed(common, own), resampled)


def _damaged(path: pathlib.Path, line_number: int, error: Exception) -> WorkdirError:
    return WorkdirError(f"{path}, line {line_number}: expected the record of a run: {error!s:.100}")


def _changes(values: Any, common: Any) -> dict[str, Any] | None:
    """Return what to change in common values; None: it would take removing something."""
    if set(common) - set(values):
        return None
    changes = {}
    for key, value in values.items():
        old = common.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if (nested := _changes(value, old)) is None:
                return None
            if nested:
                changes[key] = nested
        elif key not in common or (type(value), value) != (type(old), old):
            changes[key] = value
    return changes


def _changed(common: Any, changes: Any) -> Any:
    """Return common values with changes, which `_changes` found."""
    if not (isinstance(common, dict) and isinstance(changes, dict)):
        return changes
    both = {key: _changed(common.get(key), value) for key, value in changes.items()}
    return {**common, **both}


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _checksum(values: Any) -> str:
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
