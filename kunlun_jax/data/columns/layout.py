"""Which columns the file of a data set holds, and where.

    users                                         numbers in the data set, of the users as stored
    log/<stream>/offsets, times, ids/<f>, dense   the stream's `EventLog`, behind whose events stand
                                                  `max_len` of zeros: a window fits behind every one
    <split>/examples                              the split's `Examples`, a record each
    <split>/places                                where each example of the split is stored

Users are stored in the order of the shards, and number 0, 1, ... in logs and examples. Examples are
stored by user, and a user's in the order of the split: what a block of examples needs of a log
stands together. Dense values are standardised.

A batch takes many events of a few users, and one value of every column of an example: so events are
columns, which are copied window by window, and an example is a record, which lies in one page.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from kunlun_jax.data.hashing import id_dtypes
from kunlun_jax.data.reading.shard_reader import empty_examples, empty_log
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import SPLITS, EventLog, Examples

USERS = "users"
PAGE = 4096  # bytes; a column begins with a page, so that advice to the system is about it alone
Table = TypeVar("Table", EventLog, Examples)


@dataclasses.dataclass(frozen=True)
class Column:
    """Where a column lies.

    Attributes:
        name: Its name.
        dtype: Its type.
        shape: Its shape.
        offset: Byte of the file at which it begins.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole column."""
        return self.shape[0] * self.row_bytes

    def to_json(self) -> dict[str, Any]:
        """Return it as the index of the file has it."""
        dtype = np.lib.format.dtype_to_descr(self.dtype)
        extent = {"shape": self.shape, "offset": self.offset}
        return json.loads(json.dumps({"name": self.name, "dtype": dtype, **extent}))


def log_name(stream: str) -> str:
    """Return what the names of a log's columns begin with."""
    return f"log/{stream}/"


def places_name(split: str) -> str:
    """Return the name of the column of stored positions of a split."""
    return f"{split}/places"


def examples_name(split: str) -> str:
    """Return the name of the column of records of a split."""
    return f"{split}/examples"


def layout(schema: Schema, counts: Mapping[str, Any]) -> list[Column]:
    """Return the columns of a data set, in the order of the file.

    Args:
        schema: The schema.
        counts: What the manifest says: users, events by stream, rows by split.
    """
    found: list[Column] = []

    def add(name: str, like: np.ndarray, rows: int) -> None:
        end = found[-1].offset + found[-1].num_bytes if found else 0
        shape = (rows, *like.shape[1:])
        found.append(Column(name, like.dtype, shape, -(-end // PAGE) * PAGE))

    add(USERS, np.empty(0, np.int32), counts["users"])
    for stream in schema.streams:
        rows = counts["events"][stream.name] + stream.max_len
        log = empty_log(stream, id_dtypes(schema))
        for name, like in to_columns(log, log_name(stream.name)).items():
            add(name, like, counts["users"] + 1 if name.endswith("/offsets") else rows)
    for split in SPLITS:
        add(places_name(split), np.empty(0, np.int64), counts["rows"][split])
        add(examples_name(split), to_records(empty_examples(schema, 0)), counts["rows"][split])
    return found


def counts_in(columns: Iterable[Mapping[str, Any]], schema: Schema) -> dict[str, Any]:
    """Return the counts of which `layout` has made columns.

    Args:
        columns: As `Column.to_json` gives them.
        schema: The schema.
    """
    rows = {column["name"]: column["shape"][0] for column in columns}
    return {
        "users": rows[USERS],
        "events": {s.name: rows[f"{log_name(s.name)}times"] - s.max_len for s in schema.streams},
        "rows": {split: rows[places_name(split)] for split in SPLITS},
    }


def file_bytes(columns: Iterable[Column]) -> int:
    """Return the size of the file, at least 1: nothing cannot be mapped."""
    return max(1, *(column.offset + column.num_bytes for column in columns))


def to_columns(table: EventLog | Examples, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of a table by the names of their columns.

    Args:
        table: The table.
        prefix: What the names begin with.
    """
    columns: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        named = value if isinstance(value, dict) else {"": value}
        columns |= {f"{prefix}{field.name}{key and '/' + key}": x for key, x in named.items()}
    return columns


def from_columns(
    like: Table, columns: Mapping[str, np.ndarray] | np.ndarray, prefix: str = ""
) -> Table:
    """Return the table whose arrays `to_columns` has named.

    Args:
        like: A table of the same schema.
        columns: The arrays, by name; or records with fields of these names.
        prefix: What the names begin with.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(like):
        value, name = getattr(like, field.name), f"{prefix}{field.name}"
        is_named = isinstance(value, dict)
        values[field.name] = (
            {key: columns[f"{name}/{key}"] for key in value} if is_named else columns[name]
        )
    return dataclasses.replace(like, **values)


def to_records(examples: Examples) -> np.ndarray:
    """Return examples as records, whose fields are named as columns; `from_columns` undoes it.

    Args:
        examples: [n].

    Returns:
        Structured [n].
    """
    columns = to_columns(examples)
    fields = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    records = np.zeros(len(examples), np.dtype(fields, align=True))
    for name, column in columns.items():
        records[name] = column
    return records
