"""A built data set: dataset.json beside ArrayRecord shards, opened into NumPy columns."""

import dataclasses
import json
import pathlib
from functools import cached_property
from typing import Any

import numpy as np

from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.label_rates import label_rates
from kunlun_jax.data.reading.gather import padded_log
from kunlun_jax.data.reading.shard_reader import empty_examples, read_shard
from kunlun_jax.data.schema import EventStream, Schema, SchemaError
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, Shard
from kunlun_jax.files import file_sha256, first_difference, json_sha256

MANIFEST = "dataset.json"
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
        directory: Where it lies.
        manifest: The content of dataset.json.
        schema: The schema, with the mean and std of every dense feature.
        num_users: Number of users.
        logs: Event logs by stream, raw.
        splits: Examples by split, raw, in the order of the source.
    """

    directory: pathlib.Path
    manifest: dict[str, Any]
    schema: Schema
    num_users: int
    logs: dict[str, EventLog]
    splits: dict[str, Examples]

    @classmethod
    def open(cls, directory: str | pathlib.Path, *, schema: Schema | None = None) -> "Dataset":
        """Load a data set.

        Args:
            directory: What `build_dataset` wrote.
            schema: If given, the schema that the data set has to have.

        Every file is compared with its checksum: a flipped bit in a number shows nowhere else.

        Raises:
            DatasetError: If something is missing, damaged or of another schema; names the file.
        """
        directory = pathlib.Path(directory)
        manifest = read_manifest(directory)
        path = directory / MANIFEST
        found = _schema_of(manifest, path)
        if schema is not None and schema != found:
            difference = first_difference(schema.to_json(), found.to_json(), "schema")
            assert difference, "two schemas differ just where their JSON does"
            place, expected, got = difference
            raise DatasetError(f"{path}: {place}: expected {expected}, got {got}")
        verify_files(directory, manifest)
        try:
            assembler = _Assembler(found, manifest["counts"])
        except (MemoryError, ValueError) as error:
            raise DatasetError(f"{path}: counts: no memory for so many rows: {error}") from error
        for entry in manifest["files"]:
            shard = read_shard(directory / entry["name"], found)
            try:
                assembler.add(shard)
            except DatasetError as error:
                raise DatasetError(f"{directory / entry['name']}: {error}") from error
        logs, splits = assembler.finish(path)
        return cls(directory, manifest, found, manifest["counts"]["users"], logs, splits)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the schema and of the shards' checksums: what the data set contains."""
        return identity_of(self.manifest)

    @cached_property
    def label_rates(self) -> dict[str, dict[str, float | None]]:
        """By split and task, the weighted mean label (`label_rates.py`), of the examples.

        Not what dataset.json says: data sets of earlier versions recorded unweighted means.
        """
        return {name: label_rates(part, self.schema.labels) for name, part in self.splits.items()}

    @cached_property
    def padded_logs(self) -> dict[str, EventLog]:
        """The logs as the pipeline gathers from them (`gather.padded_log`)."""
        return {s.name: padded_log(self.logs[s.name], s, s.max_len) for s in self.schema.streams}


def identity_of(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of the schema and of the shards' checksums: what a data set contains.

    Args:
        manifest: The content of dataset.json.
    """
    content = {"schema": manifest["schema"], "files": manifest["files"]}
    return json_sha256(content)


def verify_files(directory: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Compare every file with its size and checksum.

    Raises:
        DatasetError: On the first file that is missing or differs.
    """
    for entry in [*manifest["files"], *manifest.get("vocabularies", {}).values()]:
        check_file(directory, entry)


def check_file(directory: pathlib.Path, entry: dict[str, Any]) -> None:
    """Compare a file with what the manifest says of it: name, bytes, sha256.

    Raises:
        DatasetError: If it is missing or differs.
    """
    path = directory / entry["name"]
    if not path.exists():
        raise DatasetError(f"{path}: missing")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DatasetError(f"{path}: expected {entry['bytes']} bytes, got {size}")
    checksum = file_sha256(path)
    if checksum != entry["sha256"]:
        raise DatasetError(f"{path}: damaged: expected SHA-256 {entry['sha256']}, got {checksum}")


def read_schema(directory: pathlib.Path) -> Schema:
    """Return the schema of a data set, without a look at its shards.

    Raises:
        DatasetError: As `read_manifest`.
    """
    return _schema_of(read_manifest(directory), directory / MANIFEST)


def manifest_checksum(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of what dataset.json says, apart from its own checksum."""
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return json_sha256(content)


def read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    """Read dataset.json.

    Raises:
        DatasetError: If it is missing, damaged, or of another format version.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{directory}: no data set here, {MANIFEST} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise DatasetError(f"{path}: expected format version {FORMAT_VERSION}, got {version}")
    missing = {"schema", "counts", "label_rates", "source", "files"} - set(manifest)
    if missing:
        raise DatasetError(f"{path}: no {sorted(missing)}")
    # Data sets of before there was a checksum are accepted without.
    expected = manifest.get("manifest_sha256", manifest_checksum(manifest))
    if expected != manifest_checksum(manifest):
        raise DatasetError(f"{path}: damaged: its content does not have its checksum")
    _check_layout(manifest, _schema_of(manifest, path), path)
    return manifest


def _check_layout(manifest: dict[str, Any], schema: Schema, path: pathlib.Path) -> None:
    """Refuse a manifest that lacks, or has of another type, what is read from it."""
    files, vocabularies = manifest["files"], manifest.get("vocabularies", {})
    if not isinstance(files, list) or not isinstance(vocabularies, dict):
        raise DatasetError(f"{path}: files: expected a list and a mapping of files")
    for entry in (*files, *vocabularies.values()):
        if not _is_entry(entry):
            raise DatasetError(f"{path}: files: expected name, bytes and sha256, got {entry!r:.60}")
    counts = manifest["counts"]
    expected = {"rows": list(SPLITS), "events": [stream.name for stream in schema.streams]}
    for key, names in expected.items():
        found = counts.get(key) if isinstance(counts, dict) else None
        if not isinstance(found, dict) or sorted(found) != sorted(names) or not all(
            map(_is_count, found.values())
        ):  # fmt: skip
            raise DatasetError(f"{path}: counts: expected {key} of {names}, got {found!r:.60}")
    if not _is_count(counts.get("users")):
        raise DatasetError(f"{path}: counts: expected users, got {counts.get('users')!r:.60}")
    rates = manifest["label_rates"]
    found = rates.get("train") if isinstance(rates, dict) else None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(task, ""), float | int | None) for task in schema.labels
    ):  # fmt: skip
        raise DatasetError(f"{path}: label_rates: expected train's, got {found!r:.60}")


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in ("name", "sha256"))
        and _is_count(entry.get("bytes"))
        and not {"", "..", "."} & set(entry["name"].split("/"))  # below the directory
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _schema_of(manifest: dict[str, Any], path: pathlib.Path) -> Schema:
    try:
        return Schema.from_json(manifest["schema"])
    except SchemaError as error:
        raise DatasetError(f"{path}: {error}") from error


class _Assembler:
    """Puts shards, in any order, into the columns of the whole data set."""

    def __init__(self, schema: Schema, counts: dict[str, Any]) -> None:
        self._schema, self._counts = schema, counts
        self._splits = {name: empty_examples(schema, counts["rows"][name]) for name in SPLITS}
        self._seen = {name: np.zeros(counts["rows"][name], dtype=bool) for name in SPLITS}
        self._found: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self._users: list[np.ndarray] = []
        self._logs: list[dict[str, EventLog]] = []

    def add(self, shard: Shard) -> None:
        self._users.append(shard.users)
        self._logs.append(shard.tables.logs)
        for name, part in shard.tables.splits.items():
            rows, split, seen = shard.rows[name], self._splits[name], self._seen[name]
            if len(rows) and (rows.min() < 0 or rows.max() >= len(seen) or seen[rows].any()):
                raise DatasetError(
                    f"split {name!r}: expected each of {len(seen)} rows once, got {rows.min()} .. "
                    f"{rows.max()}"
                )
            seen[rows] = True
            self._found[name] += len(rows)
            split.users[rows] = shard.users[part.users]
            split.request_times[rows] = part.request_times
            split.weights[rows] = part.weights
            split.labels[rows] = part.labels
            split.dense[rows] = part.dense
            for feature in self._schema.sparse:
                split.sparse[feature.name][rows] = part.sparse[feature.name]
                split.sparse_lengths[feature.name][rows] = part.sparse_lengths[feature.name]
            for stream in self._schema.streams:
                split.ends[stream.name][rows] = part.ends[stream.name]

    def finish(self, path: pathlib.Path) -> tuple[dict[str, EventLog], dict[str, Examples]]:
        if self._found != self._counts["rows"]:
            raise DatasetError(
                f"{path}: expected rows {self._counts['rows']}, the shards hold {self._found}"
            )
        return {s.name: self._log(s, path) for s in self._schema.streams}, self._splits

    def _log(self, stream: EventStream, path: pathlib.Path) -> EventLog:
        num_users, num_events = self._counts["users"], self._counts["events"][stream.name]
        logs = [part[stream.name] for part in self._logs]
        users = np.concatenate(self._users)
        sizes = np.concatenate([np.diff(log.offsets) for log in logs])
        if (
            (len(users), sizes.sum()) != (num_users, num_events)
            or not np.array_equal(np.sort(users), np.arange(num_users))
        ):  # fmt: skip
            raise DatasetError(
                f"{path}: stream {stream.name!r}: expected {num_events} events of {num_users} "
                f"users, the shards hold {sizes.sum()} of {len(users)}"
            )
        lengths = np.zeros(num_users, dtype=np.int64)
        lengths[users] = sizes
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts = np.cumsum(sizes) - sizes
        target = np.repeat(offsets[users] - starts, sizes) + np.arange(num_events)

        def scatter(parts: list[np.ndarray]) -> np.ndarray:
            values = np.empty((num_events, *parts[0].shape[1:]), parts[0].dtype)
            values[target] = np.concatenate(parts)
            return values

        ids = {f.name: scatter([log.ids[f.name] for log in logs]) for f in stream.ids}
        times, dense = scatter([log.times for log in logs]), scatter([log.dense for log in logs])
        return EventLog(offsets, times, ids, dense)
