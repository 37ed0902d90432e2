"""Reads one shard back into the tables it was made of."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa

from kunlun_jax.data.format import (
    EXAMPLES,
    LOG,
    Block,
    DatasetError,
    example_columns,
    log_columns,
    read_blocks,
    sparse_values,
)
from kunlun_jax.data.hashing import id_dtypes
from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.schema import EventStream, Schema, SchemaError
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, Shard, SourceTables


def read_shard(path: pathlib.Path, schema: Schema) -> Shard:
    """Read a shard.

    Raises:
        DatasetError: If the file is damaged or does not fit the schema; names file and record.
    """
    expected = _column_types(schema)
    blocks: dict[tuple[str, str], list[Block]] = {key: [] for key in expected}
    for record, block in enumerate(read_blocks(path)):
        key = (block.kind, block.name)
        if key not in blocks:
            raise DatasetError(
                f"{path}: record {record}: expected one of {list(blocks)}, got {key}"
            )
        types = {name: column.type for name, column in block.columns.items()}
        for name in sorted({*types, *expected[key]}):
            wanted, got = expected[key].get(name, "none"), types.get(name, "none")
            if wanted != got:
                raise DatasetError(
                    f"{path}: record {record}: column {name!r}: expected {wanted}, got {got}"
                )
        blocks[key].append(block)
    try:
        shard = _shard(blocks, schema)
        validate_tables(shard.tables, shard.rows)
    except SchemaError as error:
        raise DatasetError(f"{path}: {error}") from error
    except (ValueError, IndexError) as error:  # nulls, or lists of other lengths
        raise DatasetError(f"{path}: does not fit the schema: {error}") from error
    return shard


def count_shard(path: pathlib.Path, schema: Schema) -> dict[str, Any]:
    """Return what a shard holds, without making tables of it: users, events and rows.

    Whether it fits the schema is for `read_shard` to say.

    Raises:
        DatasetError: If the file is damaged.
    """
    users, events = 0, {stream.name: 0 for stream in schema.streams}
    rows = dict.fromkeys(SPLITS, 0)
    for block in read_blocks(path):
        if block.kind == LOG and block.name in events and {"user", "times"} <= set(block.columns):
            events[block.name] += len(block.columns["times"].flatten())
            users += len(block.columns["user"]) if block.name == schema.streams[0].name else 0
        elif block.kind == EXAMPLES and block.name in rows and "row" in block.columns:
            rows[block.name] += len(block.columns["row"])
    return {"users": users, "events": events, "rows": rows}


def _column_types(schema: Schema) -> dict[tuple[str, str], dict[str, pa.DataType]]:
    """Return the type of every column of every kind of block, as blocks of nothing have them."""
    nobody = np.empty(0, np.int32)
    columns = {
        (LOG, stream.name): log_columns(empty_log(stream, id_dtypes(schema)), stream, nobody)
        for stream in schema.streams
    }
    examples = example_columns(empty_examples(schema, 0), schema, nobody, nobody)
    columns |= {(EXAMPLES, split): examples for split in SPLITS}
    return {
        key: {name: column.type for name, column in named.items()} for key, named in columns.items()
    }


def _shard(blocks: dict[tuple[str, str], list[Block]], schema: Schema) -> Shard:
    logs, users = {}, np.empty(0, np.int32)
    for stream in schema.streams:
        parts = [block.columns for block in blocks[LOG, stream.name]]
        found = _concatenate([p["user"].to_numpy() for p in parts], np.int32)
        if logs and not np.array_equal(found, users):
            raise DatasetError(f"stream {stream.name!r}: expected the users of the first stream")
        users, logs[stream.name] = found, _log(parts, stream, id_dtypes(schema))
    if (np.diff(users) <= 0).any():
        raise DatasetError("expected users in ascending order")
    splits, rows = {}, {}
    for name in SPLITS:
        parts = [_examples(block, schema, users) for block in blocks[EXAMPLES, name]]
        splits[name] = _join([examples for examples, _ in parts], schema)
        rows[name] = _concatenate([row for _, row in parts], np.int64)
    return Shard(SourceTables(schema, len(users), logs, splits, checksums={}), users, rows)


def _log(parts: list[dict[str, pa.Array]], stream: EventStream, types: dict[str, type]) -> EventLog:
    def column(name: str, dtype: type) -> np.ndarray:
        return _concatenate([p[name].flatten().to_numpy() for p in parts], dtype)

    sizes = _concatenate([np.diff(p["times"].offsets.to_numpy()) for p in parts], np.int64)
    times = column("times", np.int64)
    dense = [column(f"dense/{f.name}", np.float32) for f in stream.dense]
    return EventLog(
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        times=times,
        ids={f.name: column(f"id/{f.name}", types[f.vocabulary]) for f in stream.ids},
        dense=_matrix(dense, len(times)),
    )


def _examples(block: Block, schema: Schema, users: np.ndarray) -> tuple[Examples, np.ndarray]:
    columns = block.columns
    row = columns["row"].to_numpy()
    user = columns["user"].to_numpy()
    user_index = np.searchsorted(users, user).astype(np.int32)
    if not np.isin(user, users).all():
        raise DatasetError(f"split {block.name!r}: expected users of the shard's logs")
    sparse = {
        f.name: sparse_values(columns[f"sparse/{f.name}"], f.max_values) for f in schema.sparse
    }
    examples = Examples(
        users=user_index,
        request_times=columns["request_time"].to_numpy(),
        labels=_matrix([columns[f"label/{n}"].to_numpy() for n in schema.labels], len(row)),
        weights=columns["weight"].to_numpy(),
        dense=_matrix([columns[f"dense/{f.name}"].to_numpy() for f in schema.dense], len(row)),
        sparse={name: ids for name, (ids, _) in sparse.items()},
        sparse_lengths={name: lengths for name, (_, lengths) in sparse.items()},
        ends={s.name: columns[f"end/{s.name}"].to_numpy() for s in schema.streams},
    )
    return examples, row


def _join(parts: list[Examples], schema: Schema) -> Examples:
    parts = [empty_examples(schema, 0), *parts]
    return Examples(
        users=np.concatenate([p.users for p in parts]),
        request_times=np.concatenate([p.request_times for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
        dense=np.concatenate([p.dense for p in parts]),
        sparse={f.name: np.concatenate([p.sparse[f.name] for p in parts]) for f in schema.sparse},
        sparse_lengths={
            f.name: np.concatenate([p.sparse_lengths[f.name] for p in parts]) for f in schema.sparse
        },
        ends={s.name: np.concatenate([p.ends[s.name] for p in parts]) for s in schema.streams},
    )


def join_shards(shards: list[Shard], schema: Schema) -> SourceTables:
    """Return the data set that shards are the parts of: users and rows in the order of the source.

    Args:
        shards: All of them; each user and each row is in one.
        schema: Their schema.
    """
    users = _concatenate([shard.users for shard in shards], np.int32)
    logs = {
        stream.name: _join_logs([s.tables.logs[stream.name] for s in shards], stream, schema)
        for stream in schema.streams
    }
    splits = {}
    for name in SPLITS:
        parts = [(s.tables.splits[name], s.users) for s in shards]
        examples = _join(
            [dataclasses.replace(part, users=of[part.users]) for part, of in parts], schema
        )
        splits[name] = examples.take(np.argsort(np.concatenate([s.rows[name] for s in shards])))
    logs = {name: log.take(np.argsort(users)) for name, log in logs.items()}
    return SourceTables(schema, len(users), logs, splits, checksums={})


def _join_logs(parts: list[EventLog], stream: EventStream, schema: Schema) -> EventLog:
    parts = [empty_log(stream, id_dtypes(schema)), *parts]
    sizes = np.concatenate([np.diff(p.offsets) for p in parts])
    return EventLog(
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        times=np.concatenate([p.times for p in parts]),
        ids={f.name: np.concatenate([p.ids[f.name] for p in parts]) for f in stream.ids},
        dense=np.concatenate([p.dense for p in parts]),
    )


def empty_log(stream: EventStream, types: dict[str, type]) -> EventLog:
    """Return the log of no users.

    Args:
        stream: The stream.
        types: Types of ids by vocabulary (`hashing.id_dtypes`).
    """
    return _log([], stream, types)


def empty_examples(schema: Schema, count: int) -> Examples:
    """Return examples of undefined content, to be filled."""
    types = id_dtypes(schema)
    return Examples(
        users=np.empty(count, dtype=np.int32),
        request_times=np.empty(count, dtype=np.int64),
        labels=np.empty((count, len(schema.labels)), dtype=np.float32),
        weights=np.empty(count, dtype=np.float32),
        dense=np.empty((count, len(schema.dense)), dtype=np.float32),
        sparse={
            f.name: np.empty((count, f.max_values), types[f.vocabulary]) for f in schema.sparse
        },
        sparse_lengths={f.name: np.empty(count, dtype=np.int32) for f in schema.sparse},
        ends={s.name: np.empty(count, dtype=np.int32) for s in schema.streams},
    )


def _matrix(columns: list[np.ndarray], count: int) -> np.ndarray:
    """Return float32 [count, columns]."""
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0), np.float32)


def _concatenate(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)
