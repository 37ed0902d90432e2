"""A file of columns, mapped: opened in the same time whatever its size, and read where needed.

Beside it lies an index, JSON with where each column is, its checksum, and sums over whole columns.
A file that is missing, of another size or without a good index is made anew from the shards, which
stay the truth. One of the right size is mapped at once and compared with its checksums by a thread;
`confirm` waits for that, and is called before anything is saved or reported.
"""

import dataclasses
import hashlib
import json
import mmap
import os
import pathlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np

from kunlun_jax.data.columns.layout import (
    USERS,
    Column,
    counts_in,
    examples_name,
    file_bytes,
    from_columns,
    layout,
    log_name,
    places_name,
    to_columns,
)
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.hashing import id_dtypes
from kunlun_jax.data.manifest import identity_of, is_part
from kunlun_jax.data.reading.shard_reader import empty_examples, empty_log
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import SPLITS, EventLog, Examples
from kunlun_jax.files import json_sha256, publish

VERSION = 1  # of the layout; files of another one are made anew
_CHUNK = 2**20  # bytes that a checksum takes in at a time


@dataclasses.dataclass(frozen=True)
class MappedColumns:
    """The columns of a data set, or of a part of one, mapped and not to be written.

    Attributes:
        path: The file.
        counts: Users, events by stream, and rows by split.
        users: int32 [users], numbers in the data set, of the users as stored.
        logs: By stream, the log of the users as stored; standardised and padded.
        splits: By split, the examples as stored; their users are indices into `users`.
        places: By split, int64 [n], where each example of the split is stored; of a part, which
            does not know where in the split its examples stand, 0, 1, ...
        statistics: What `making.py` has found of whole columns.
    """

    path: pathlib.Path
    counts: dict[str, Any]
    users: np.ndarray
    logs: dict[str, EventLog]
    splits: dict[str, Examples]
    places: dict[str, np.ndarray]
    statistics: dict[str, Any]
    _file: "_OpenFile"

    def read_ahead(self, split: str, first: int, stop: int) -> None:
        """Ask the system to read examples, and the histories of their users, and do not wait.

        Args:
            split: The split.
            first: The first example, as stored.
            stop: The one behind the last.
        """
        users = self.splits[split].users
        start, end = int(users[first]), int(users[stop - 1]) + 1
        self._file.read_ahead(examples_name(split), first, stop)
        for stream, log in self.logs.items():
            events = int(log.offsets[start]), int(log.offsets[end])
            for name in to_columns(log, log_name(stream)):
                if not name.endswith("/offsets"):
                    self._file.read_ahead(name, *events)

    def confirm(self) -> None:
        """Return when all columns are known to be what they were when they were made.

        Raises:
            DatasetError: If one is damaged, or the file has changed since it was opened.
        """
        self._file.confirm()


def columns_path(folder: pathlib.Path, manifest: dict[str, Any]) -> pathlib.Path:
    """Return the name of the file of columns: another one for every content of a data set.

    Args:
        folder: Where it lies.
        manifest: Of the data set.
    """
    return folder / f"columns-{identity_of(manifest)[:16]}.bin"


def index_path(path: pathlib.Path) -> pathlib.Path:
    """Return the name of the index of a file of columns."""
    return path.with_suffix(".json")


def write_index(
    path: pathlib.Path,
    manifest: dict[str, Any],
    columns: Iterable[Column],
    checksums: Mapping[str, str],
    statistics: Mapping[str, Any],
) -> None:
    """Write the index of a file of columns, durably.

    Args:
        path: The file of columns.
        manifest: Of the data set.
        columns: Its columns.
        checksums: SHA-256 of every column, by name.
        statistics: As of `MappedColumns`.

    Raises:
        OSError: If it cannot be written.
    """
    content = {
        "version": VERSION,
        "identity": identity_of(manifest),
        "columns": [column.to_json() | {"sha256": checksums[column.name]} for column in columns],
        "statistics": statistics,
    }
    text = json.dumps({**content, "index_sha256": json_sha256(content)}, indent=1)
    publish(index_path(path), text + "\n")


def read_index(path: pathlib.Path, manifest: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the index of a file of columns that could be mapped.

    Args:
        path: The file of columns.
        manifest: Of the data set.
        schema: Of the data set.

    Raises:
        DatasetError: If file or index is missing, or is not what the data set's would be.
    """
    try:
        content = json.loads(index_path(path).read_text())
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{index_path(path)}: not JSON: {error}") from error
    checksum = content.pop("index_sha256", None) if isinstance(content, dict) else None
    if checksum != json_sha256(content):
        raise DatasetError(f"{index_path(path)}: damaged: its content does not have its checksum")
    expected = {"version": VERSION, "identity": identity_of(manifest)}
    if expected != {key: content.get(key) for key in expected}:
        raise DatasetError(f"{index_path(path)}: of another version, or of another data set")
    found = [{k: v for k, v in x.items() if k != "sha256"} for x in content["columns"]]
    columns = layout(schema, counts_in(found, schema) if is_part(manifest) else manifest["counts"])
    if found != [column.to_json() for column in columns]:
        raise DatasetError(f"{index_path(path)}: of another version, or of another data set")
    if size != file_bytes(columns):
        raise DatasetError(f"{path}: expected {file_bytes(columns)} bytes, got {size}")
    return content


def map_columns(
    path: pathlib.Path,
    index: dict[str, Any],
    schema: Schema,
    *,
    verify: bool,
) -> MappedColumns:
    """Map a file of columns.

    Args:
        path: The file.
        index: Its index.
        schema: Of the data set.
        verify: Whether a thread compares all columns with their checksums.

    Raises:
        DatasetError: If the system does not map it.
    """
    counts = counts_in(index["columns"], schema)
    columns = layout(schema, counts)
    checksums = {entry["name"]: entry["sha256"] for entry in index["columns"]}
    try:
        file = path.open("rb")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be mapped: {error}") from error
    arrays = {c.name: np.ndarray(c.shape, c.dtype, content, c.offset) for c in columns}
    types = id_dtypes(schema)
    return MappedColumns(
        path=path,
        counts=counts,
        users=arrays[USERS],
        logs={s.name: from_columns(empty_log(s, types), arrays, log_name(s.name))
              for s in schema.streams},
        splits={name: from_columns(empty_examples(schema, 0), arrays[examples_name(name)])
                for name in SPLITS},
        places={name: arrays[places_name(name)] for name in SPLITS},
        statistics=index["statistics"],
        _file=_OpenFile(path, file, content, columns, checksums if verify else {}),
    )  # fmt: skip


def find_damage(
    path: pathlib.Path, file: BinaryIO, columns: Iterable[Column], checksums: Mapping[str, str]
) -> str:
    """Compare columns with their checksums; returns what is wrong with the first bad one, or "".

    Args:
        path: Of the file, for the message.
        file: The file.
        columns: Its columns.
        checksums: SHA-256 of those that are compared, by name.
    """
    for column in columns:
        expected = checksums.get(column.name)
        if expected is not None and (got := column_sha256(file, column)) != expected:
            return (
                f"{path}: column {column.name!r}: damaged: expected SHA-256 {expected}, got {got}"
            )
    return ""


def column_sha256(file: BinaryIO, column: Column) -> str:
    """Return the SHA-256 of a column, in hexadecimal digits; its offset in the file is not used."""
    digest, left, offset = hashlib.sha256(), column.num_bytes, column.offset
    while left:
        piece = os.pread(file.fileno(), min(left, _CHUNK), offset)
        if not piece:
            break  # the file was cut, and the digest will differ
        digest.update(piece)
        left, offset = left - len(piece), offset + len(piece)
    return digest.hexdigest()


class _OpenFile:
    """Watches a file that is mapped."""

    def __init__(
        self,
        path: pathlib.Path,
        file: BinaryIO,
        content: mmap.mmap,
        columns: Iterable[Column],
        checksums: Mapping[str, str],
    ) -> None:
        self._path, self._opened, self._damage = path, _stamp(os.fstat(file.fileno())), ""
        self._content, self._columns = content, {column.name: column for column in columns}
        self._thread = threading.Thread(
            target=self._verify, args=(file, columns, checksums), daemon=True, name="columns"
        )
        self._thread.start()

    def _verify(
        self, file: BinaryIO, columns: Iterable[Column], checksums: Mapping[str, str]
    ) -> None:
        with file:
            try:
                self._damage = find_damage(self._path, file, columns, checksums)
            except OSError as error:
                self._damage = f"{self._path}: cannot be read: {error}"

    def read_ahead(self, name: str, first: int, stop: int) -> None:
        column = self._columns[name]
        start, end = (column.offset + row * column.row_bytes for row in (first, stop))
        start -= start % mmap.PAGESIZE
        if end > start:
            self._content.madvise(mmap.MADV_WILLNEED, start, end - start)

    def confirm(self) -> None:
        self._thread.join()
        if not self._damage and self._has_changed():
            self._damage = f"{self._path}: changed while it was in use"
        if self._damage:
            raise DatasetError(f"{self._damage}; {_forget(self._path)}")

    def _has_changed(self) -> bool:
        try:
            now = _stamp(self._path.stat())
        except OSError:
            return False  # a file that was removed or replaced stays mapped
        return now != self._opened and now[0] == self._opened[0]


def _forget(path: pathlib.Path) -> str:
    """Have a file of columns made anew by the next start; returns what to expect of it."""
    try:
        index_path(path).unlink(missing_ok=True)
    except OSError:
        return "remove it, and it is made anew from the shards"
    return "the next start makes it anew from the shards"


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    """Return what tells of a change: the file's number, its size, and when it was last written."""
    return status.st_ino, status.st_size, status.st_mtime_ns
