"""Makes a file of columns from the shards, one shard at a time.

Memory does not grow with the data set: a shard, a byte a user, and pages of the file that the
system may write out and take back at any time.
"""

import dataclasses
import functools
import math
import pathlib
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.columns.layout import (
    USERS,
    Column,
    examples_name,
    file_bytes,
    layout,
    log_name,
    places_name,
    to_columns,
    to_records,
)
from kunlun_jax.data.columns.mapped import column_sha256, write_index
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.label_rates import label_weights
from kunlun_jax.data.manifest import MANIFEST, added, check_file, is_part
from kunlun_jax.data.reading.shard_reader import count_shard, read_shard
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, Shard
from kunlun_jax.files import part_of, reserve, settle


def make_columns(
    directory: pathlib.Path, manifest: dict[str, Any], schema: Schema, path: pathlib.Path
) -> None:
    """Write the columns of a data set, or of a part, durably and all at once.

    Every shard, and every file of a vocabulary, is compared with its checksum first. The shards of
    a part are read twice: only they tell how much room its columns need.

    Args:
        directory: Of the data set.
        manifest: Its manifest, or what it says of the part.
        schema: Its schema.
        path: The file of columns, which is replaced where it exists; the caller holds its lock.

    Raises:
        DatasetError: If a file of the data set is missing or damaged, if shards and counts differ,
            or if there is no room.
        OSError: If the file cannot be written.
    """
    counts = _counts(directory, manifest, schema) if is_part(manifest) else manifest["counts"]
    columns = layout(schema, counts)
    for entry in manifest.get("vocabularies", {}).values():
        check_file(directory, entry)
    part = part_of(path)
    try:
        with part.open("w+b") as file:
            reserve(file, file_bytes(columns))
            writer = _Writer(file, columns, schema, counts, manifest)
            for entry in tqdm(manifest["files"], desc=f"{schema.name}: columns", unit="shard"):
                check_file(directory, entry)
                try:
                    writer.add(read_shard(directory / entry["name"], schema))
                except DatasetError as error:
                    raise DatasetError(f"{directory / entry['name']}: {error}") from error
            try:
                writer.require_counts(whole=True)
            except DatasetError as error:
                raise DatasetError(f"{directory / MANIFEST}: counts: {error}") from error
            file.flush()
            sums = {column.name: column_sha256(file, column) for column in columns}
        settle(part, path)
    finally:
        part.unlink(missing_ok=True)
    write_index(path, manifest, columns, sums, writer.statistics())


def _counts(directory: pathlib.Path, manifest: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return what the shards of a part hold together."""

    def count(entry: dict[str, Any]) -> dict[str, Any]:
        check_file(directory, entry)
        return count_shard(directory / entry["name"], schema)

    number, of = manifest["part"]
    description = f"{schema.name}: counting part {number} of {of}"
    shards = tqdm(manifest["files"], desc=description, unit="shard")
    return functools.reduce(added, map(count, shards))


class _Writer:
    """Appends shards to the columns, in the order in which they come."""

    def __init__(
        self,
        file: BinaryIO,
        columns: list[Column],
        schema: Schema,
        counts: dict[str, Any],
        manifest: dict[str, Any],
    ) -> None:
        self._file, self._schema, self._counts = file, schema, counts
        self._is_part = is_part(manifest)
        self._columns = {column.name: column for column in columns}
        self._found = {"users": 0}
        self._found |= {f"events/{stream.name}": 0 for stream in schema.streams}
        self._found |= {f"rows/{split}": 0 for split in SPLITS}
        self._written = dict.fromkeys(self._columns, 0)
        for stream in schema.streams:
            self._written[f"{log_name(stream.name)}offsets"] = 1  # the file is of zeros
        self._places = {split: self._mapped_places(split) for split in SPLITS}
        self._seen = np.zeros(manifest["counts"]["users"], bool)
        self._weights: dict[str, list[tuple[float, np.ndarray]]] = {name: [] for name in SPLITS}
        self._histories = {s.name: np.zeros(s.max_len + 1, np.int64) for s in schema.streams}

    def add(self, shard: Shard) -> None:
        """Append a shard.

        Raises:
            DatasetError: If it holds users or rows that were there before, or too many.
        """
        users, tables = shard.users, shard.tables
        self._found["users"] += len(users)
        for name, log in tables.logs.items():
            self._found[f"events/{name}"] += len(log.times)
        for split, examples in tables.splits.items():
            self._found[f"rows/{split}"] += len(examples)
        self.require_counts(whole=False)
        if len(users) and (
            users.min() < 0 or users.max() >= len(self._seen) or self._seen[users].any()
        ):
            raise DatasetError(f"expected each of {len(self._seen)} users once")
        self._seen[users] = True
        first_user = self._written[USERS]
        self._append(USERS, users)
        for stream in self._schema.streams:
            log, name = tables.logs[stream.name], log_name(stream.name)
            stored = EventLog(
                offsets=log.offsets[1:] + self._written[f"{name}times"],
                times=log.times,
                ids=log.ids,
                dense=standardize(log.dense, stream.dense),
            )
            for column, values in to_columns(stored, name).items():
                self._append(column, values)
        for split, examples in tables.splits.items():
            self._add_examples(split, examples, shard.rows[split], first_user)

    def _add_examples(
        self, split: str, examples: Examples, rows: np.ndarray, first_user: int
    ) -> None:
        order = np.lexsort((rows, examples.users))
        examples, rows = examples.take(order), rows[order]
        first = self._written[examples_name(split)]
        self._place(split, first + np.arange(len(rows)) if self._is_part else rows, first)
        self._weights[split].append(label_weights(examples))
        if split == "train":
            for stream in self._schema.streams:
                lengths = np.minimum(examples.ends[stream.name], stream.max_len)
                self._histories[stream.name] += np.bincount(lengths, minlength=stream.max_len + 1)
        stored = dataclasses.replace(
            examples,
            users=(examples.users + first_user).astype(np.int32),
            dense=standardize(examples.dense, self._schema.dense),
        )
        self._append(examples_name(split), to_records(stored))

    def _place(self, split: str, rows: np.ndarray, first: int) -> None:
        """Note that rows of a split are stored one after the other from a position on."""
        places, stored = self._places[split], np.arange(first, first + len(rows))
        if len(rows):
            inside = rows.min() >= 0 and rows.max() < len(places)
            if inside and (places[rows] == -1).all():
                places[rows] = stored
                inside = np.array_equal(places[rows], stored)  # and none of them twice
            else:
                inside = False
            if not inside:
                raise DatasetError(
                    f"split {split!r}: expected each of {len(places)} rows once, got "
                    f"{rows.min()} .. {rows.max()}"
                )

    def _append(self, name: str, values: np.ndarray) -> None:
        column, start = self._columns[name], self._written[name]
        self._written[name] = start + len(values)
        assert values.dtype == column.dtype and values.shape[1:] == column.shape[1:], name
        if values.size:
            self._file.seek(column.offset + start * column.row_bytes)
            self._file.write(np.ascontiguousarray(values).view(np.uint8).data)

    def _mapped_places(self, split: str) -> np.ndarray:
        column = self._columns[places_name(split)]
        if not column.shape[0]:
            return np.empty(0, column.dtype)
        # Whole pages alone can be mapped; a column begins with one.
        places = np.memmap(self._file, column.dtype, "r+", column.offset, column.shape)
        places[:] = -1
        return places

    def require_counts(self, *, whole: bool) -> None:
        """Compare what the shards hold with the counts of the manifest.

        Args:
            whole: Whether all shards were added.

        Raises:
            DatasetError: If they hold more; or less, if there are no others.
        """
        for name, found in self._found.items():
            kind, _, key = name.partition("/")
            expected = self._counts[kind][key] if key else self._counts[kind]
            if found > expected or (whole and found < expected):
                subject = {"events": f"stream {key!r}: ", "rows": f"split {key!r}: "}.get(kind, "")
                held = found if whole else f"at least {found}"
                raise DatasetError(f"{subject}expected {expected} {kind}, the shards hold {held}")

    def statistics(self) -> dict[str, Any]:
        """Return what is known of whole columns, so that nobody has to read them for it.

        Weight and weighted positives by split, and how many training examples are offered a history
        of 0, 1, ..., max_len events, by stream.
        """
        weights = {}
        for split, parts in self._weights.items():
            positives = np.array([found for _, found in parts]).reshape(-1, self._num_tasks)
            weights[split] = {
                "weight": math.fsum(weight for weight, _ in parts),
                "positives": [math.fsum(column) for column in positives.T],
            }
        histories = {name: counts.tolist() for name, counts in self._histories.items()}
        return {"weights": weights, "histories": histories}

    @property
    def _num_tasks(self) -> int:
        return len(self._schema.labels)
