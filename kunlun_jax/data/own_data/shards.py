"""Makes the shards of staged tables: sorts each one's rows and finds where histories end."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.building.shards import ShardSource
from kunlun_jax.data.counting import with_columns
from kunlun_jax.data.cross import columns_of
from kunlun_jax.data.extension import Parent
from kunlun_jax.data.hashing import id_dtypes
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.stage import Stage
from kunlun_jax.data.own_data.table_schema import TableSchema
from kunlun_jax.data.schema import EventStream, Schema
from kunlun_jax.data.sources.encoding import events_before
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, Shard, SourceTables

# A shard of this many bytes of input takes a few hundred MB of memory to make.
BYTES_PER_SHARD = 64_000_000
LEAST_SHARDS = 8


@dataclasses.dataclass(frozen=True)
class Staged:
    """Tables that were staged.

    Attributes:
        schema: The schema of the data set.
        scratch: Where they lie.
        first_rows: int64 [shards, splits], the places of every shard's first examples.
    """

    schema: Schema
    scratch: pathlib.Path
    first_rows: np.ndarray


def open_tables(
    schema: TableSchema,
    inputs: Inputs,
    place: pathlib.Path,
    *,
    num_shards: int,
    checksums: dict[str, str],
    threads: int,
    memory_gb: float,
    parent: Parent | None = None,
) -> ShardSource:
    """Stage tables, or find them staged, and return their shards.

    Args:
        schema: What the columns mean.
        inputs: The files.
        place: Directory of the build.
        num_shards: Shards.
        checksums: SHA-256 of every file.
        threads: Threads that read, join and sort.
        memory_gb: Memory in GB before the disk is used.
        parent: The data set that is extended.

    Raises:
        SchemaError: If the tables are not what the schema says; names file, row, column.
    """
    options = {"threads": threads, "memory_gb": memory_gb, "parent": parent}
    stage = Stage(schema, inputs, place, num_shards=num_shards, **options)
    found = schema.schema(stage.sizes)
    staged = Staged(found, place / SCRATCH, first_rows(stage.rows))
    make = functools.partial(_read_and_make, staged)
    return ShardSource(
        found,
        stage.users,
        num_shards,
        make,
        checksums,
        stage.vocabularies,
        stage.collisions,
        stage.input_rows,
    )


def default_num_shards(inputs: Inputs) -> int:
    """Return how many shards keep every one of them small."""
    return max(LEAST_SHARDS, -(-inputs.num_bytes // BYTES_PER_SHARD))


def first_rows(rows: np.ndarray) -> np.ndarray:
    """Return the places of every shard's first examples; both are int64 [shards, splits].

    Args:
        rows: How many examples each shard has.
    """
    return np.cumsum(rows, axis=0) - rows


def make_shard(schema: Schema, tables: list["Rows"], first: np.ndarray) -> Shard:
    """Sort the rows of a shard, find where histories end, and count what is in them.

    The order is by user, time and content, so that the order of the input does not matter.

    Args:
        schema: The schema of the data set.
        tables: The impressions, and the events of every stream.
        first: int64 [splits], the places of the first examples.
    """
    found, split = _examples(tables[0], schema)
    users, user = np.unique(found.users, return_inverse=True)
    found = dataclasses.replace(found, users=user.astype(np.int32))
    logs = {
        stream.name: read_events(rows, stream, users, id_dtypes(schema))
        for stream, rows in zip(schema.streams, tables[1:], strict=True)
    }
    ends = {n: events_before(log, found.users, found.request_times) for n, log in logs.items()}
    found = with_counts(dataclasses.replace(found, ends=ends), schema, logs)
    splits = {name: found.take(split == i) for i, name in enumerate(SPLITS)}
    places = {n: first[i] + np.arange(len(splits[n])) for i, n in enumerate(SPLITS)}
    return Shard(SourceTables(schema, len(users), logs, splits, checksums={}), users, places)


def _read_and_make(staged: Staged, number: int) -> Shard:
    return make_shard(
        staged.schema,
        read_shard(staged.scratch, number, 1 + len(staged.schema.streams)),
        staged.first_rows[number],
    )


def read_shard(scratch: pathlib.Path, number: int, num_tables: int) -> list["Rows"]:
    """Return the rows of every staged table in a shard."""
    tables = []
    for table in range(num_tables):
        folder = scratch / f"staged-{table}" / f"shard={number}"
        parts = [pq.ParquetFile(path).read() for path in sorted(folder.glob("*.parquet"))]
        tables.append(Rows(pa.concat_tables(parts) if parts else None))
    return tables


class Rows:
    """The rows of one table in one shard, in no particular order."""

    def __init__(self, table: pa.Table | None) -> None:
        """Hold a table: number, time, l0 ..., w0, d0 ..., s0 ..., p0 ..., split; None: no rows."""
        self._table = table

    def numbers(self, name: str, dtype: type) -> np.ndarray:
        """Return a column; nulls are NaN in float columns, and OOV in others."""
        if self._table is None:
            return np.empty(0, dtype)
        column = self._table[name]
        filled = column.fill_null(np.nan if np.issubdtype(dtype, np.floating) else 0)
        return filled.to_numpy().astype(dtype)

    def ids(self, name: str, max_values: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """Return [n, max_values], zeros behind the true length, and int32 [n] lengths."""
        if self._table is None:
            return np.empty((0, max_values), dtype), np.empty(0, np.int32)
        column = self._table[name].combine_chunks()
        if max_values == 1:
            lengths = np.asarray(column.is_valid()).astype(np.int32)
            return self.numbers(name, dtype)[:, None], lengths
        lengths = column.value_lengths().fill_null(0).to_numpy().astype(np.int32)
        ids = np.zeros((len(lengths), max_values), dtype)
        ids[np.arange(max_values) < lengths[:, None]] = column.flatten().to_numpy()
        return ids, lengths

    def columns(self, prefix: str, count: int, dtype: type) -> list[np.ndarray]:
        """Return the columns prefix0, prefix1, ..."""
        return [self.numbers(f"{prefix}{i}", dtype) for i in range(count)]


def read_examples(rows: Rows, schema: Schema) -> Examples:
    """Return the examples as they come, without ends; users by their numbers in the data set.

    Their dense features are those of the table and, behind them, popularity.

    Args:
        rows: Of the impressions.
        schema: The schema of the data set.
    """
    labels = rows.columns("l", len(schema.labels), np.float32)
    weights = rows.numbers("w0", np.float32)
    everything = np.arange(len(weights))
    types = id_dtypes(schema)
    dense = [
        *rows.columns("d", len(schema.dense) - len(schema.derived), np.float32),
        *rows.columns("p", len(columns_of(schema.popularity)), np.float32),
    ]
    sparse = {
        f.name: rows.ids(f"s{i}", f.max_values, types[f.vocabulary])
        for i, f in enumerate(schema.sparse)
    }
    return Examples(
        users=rows.numbers("number", np.int32),
        request_times=rows.numbers("time", np.int64),
        labels=_matrix(labels, everything),
        weights=weights,
        dense=_matrix(dense, everything),
        sparse={name: ids for name, (ids, _) in sparse.items()},
        sparse_lengths={name: lengths for name, (_, lengths) in sparse.items()},
        ends={},
    )


def with_counts(examples: Examples, schema: Schema, logs: Mapping[str, EventLog]) -> Examples:
    """Return examples as `read_examples` does with all dense features that the schema declares.

    Args:
        examples: The examples; users are rows of the logs.
        schema: The schema of the data set.
        logs: The events of the streams that are counted.
    """
    dense, popularity = np.split(examples.dense, [len(schema.dense) - len(schema.derived)], axis=1)
    return with_columns(dataclasses.replace(examples, dense=dense), schema, logs, popularity)


def _examples(rows: Rows, schema: Schema) -> tuple[Examples, np.ndarray]:
    """Return the examples without ends, in order, and their splits."""
    found, split = read_examples(rows, schema), rows.numbers("split", np.int32)
    keys = [found.users, found.request_times, *found.labels.T, found.weights, *found.dense.T]
    for name, ids in found.sparse.items():
        keys += [found.sparse_lengths[name], *ids.T]
    order = _order(keys)
    return found.take(order), split[order]


def read_events(
    rows: Rows, stream: EventStream, users: np.ndarray, types: dict[str, type]
) -> EventLog:
    """Return the events of some users, in order of user, time and content.

    Args:
        rows: Of the events.
        stream: Their stream.
        users: The users by their numbers in the data set, ascending.
        types: Type of the ids by vocabulary.
    """
    user, time = rows.numbers("number", np.int32), rows.numbers("time", np.int64)
    ids = [rows.numbers(f"s{i}", types[f.vocabulary]) for i, f in enumerate(stream.ids)]
    dense = rows.columns("d", len(stream.dense), np.float32)
    order = _order([user, time, *ids, *dense])
    ends = np.searchsorted(user[order], users, side="right")
    return EventLog(
        offsets=np.concatenate([[0], ends]).astype(np.int64),
        times=time[order],
        ids={f.name: column[order] for f, column in zip(stream.ids, ids, strict=True)},
        dense=_matrix(dense, order),
    )


def _order(keys: list[np.ndarray]) -> np.ndarray:
    """Sort by the first key, then the second, and so on."""
    return np.lexsort(keys[::-1])


def _matrix(columns: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Return float32 [n, columns]."""
    return np.stack([*columns], axis=1)[order] if columns else np.zeros((len(order), 0), np.float32)
