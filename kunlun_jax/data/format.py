"""The format on disk: Arrow IPC blocks in ArrayRecord shards.

A record is one Arrow IPC stream with one RecordBatch, whose metadata say what it is:

    kind "log", name = stream       one row per user: user, times, id/<feature>, dense/<attribute>
    kind "examples", name = split   one row per example: row (its index in the split), user,
                                    request_time, weight, label/<task>, dense/<feature>,
                                    end/<stream>, sparse/<feature>

Log columns are lists, and so are multi-valued sparse features; a single-valued sparse feature is
null where it has no value. Dense values are raw.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from kunlun_jax.data.schema import EventStream, Schema
from kunlun_jax.data.tables import EventLog, Examples, Shard

LOG = "log"
EXAMPLES = "examples"
USERS_PER_BLOCK = 64
EXAMPLES_PER_BLOCK = 1024


class DatasetError(ValueError):
    """A data set that is missing, damaged, or not the one that was asked for."""


@dataclasses.dataclass(frozen=True)
class Block:
    """One decoded record.

    Attributes:
        kind: LOG or EXAMPLES.
        name: Name of the stream or of the split.
        columns: The columns by name.
    """

    kind: str
    name: str
    columns: dict[str, Any]


def encode_block(kind: str, name: str, columns: dict[str, pa.Array]) -> bytes:
    """Serialise named columns of equal length as one Arrow IPC stream."""
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    batch = batch.replace_schema_metadata({"kind": kind, "name": name})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def decode_block(record: bytes) -> Block:
    """Deserialise what `encode_block` returned.

    Raises:
        DatasetError: If the bytes are not such a stream.
    """
    try:
        with pa.ipc.open_stream(record) as reader:
            batch = reader.read_next_batch()
            batch.validate(full=True)  # offsets that point elsewhere end the process otherwise
            metadata = reader.schema.metadata
            kind, name = metadata[b"kind"].decode(), metadata[b"name"].decode()
    except (
        pa.ArrowException,
        OSError,
        StopIteration,
        KeyError,
        TypeError,
        MemoryError,
        NotImplementedError,
    ) as error:
        raise DatasetError(f"not an Arrow block of this format: {error}") from error
    return Block(kind, name, dict(zip(batch.schema.names, batch.columns, strict=True)))


def log_columns(log: EventLog, stream: EventStream, users: np.ndarray) -> dict[str, pa.Array]:
    """Return a log as columns; `users` are the numbers in the data set of its users."""
    offsets = pa.array(log.offsets.astype(np.int32))
    values = {"times": log.times}
    values |= {f"id/{f.name}": log.ids[f.name] for f in stream.ids}
    values |= {f"dense/{f.name}": log.dense[:, i] for i, f in enumerate(stream.dense)}
    columns = {n: pa.ListArray.from_arrays(offsets, pa.array(v)) for n, v in values.items()}
    return {"user": pa.array(users.astype(np.int32)), **columns}


def example_columns(
    examples: Examples, schema: Schema, users: np.ndarray, rows: np.ndarray
) -> dict[str, pa.Array]:
    """Return examples as columns.

    Args:
        examples: The examples; its own numbers of users are not used.
        schema: The schema.
        users: [n] numbers of the users in the data set.
        rows: [n] indices in the split.
    """
    values = {
        "row": rows.astype(np.int64),
        "user": users.astype(np.int32),
        "request_time": examples.request_times,
        "weight": examples.weights,
    }
    values |= {f"label/{n}": examples.labels[:, i] for i, n in enumerate(schema.labels)}
    values |= {f"dense/{f.name}": examples.dense[:, i] for i, f in enumerate(schema.dense)}
    values |= {f"end/{s.name}": examples.ends[s.name] for s in schema.streams}
    columns = {name: pa.array(v) for name, v in values.items()}
    for feature in schema.sparse:
        ids = examples.sparse[feature.name]
        lengths = examples.sparse_lengths[feature.name]
        if feature.max_values == 1:
            column = pa.array(ids[:, 0], mask=lengths == 0)
        else:
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
            flat = ids[np.arange(ids.shape[1]) < lengths[:, None]]
            column = pa.ListArray.from_arrays(offsets, pa.array(flat))
        columns[f"sparse/{feature.name}"] = column
    return columns


def sparse_values(column: pa.Array, max_values: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn a sparse column back into (ids [n, max_values], lengths [n])."""
    if max_values == 1:
        lengths = np.asarray(column.is_valid()).astype(np.int32)
        return column.fill_null(0).to_numpy()[:, None], lengths
    lengths, values = np.diff(column.offsets.to_numpy()).astype(np.int32), column.flatten()
    ids = np.zeros((len(lengths), max_values), dtype=values.type.to_pandas_dtype())
    ids[np.arange(max_values) < lengths[:, None]] = values.to_numpy()
    return ids, lengths


def shard_blocks(shard: Shard) -> Iterator[bytes]:
    """Yield the records of a shard: the logs by stream, then the examples by split."""
    schema = shard.tables.schema
    for stream in schema.streams:
        log = shard.tables.logs[stream.name]
        for start in range(0, len(shard.users), USERS_PER_BLOCK):
            users = np.arange(start, min(start + USERS_PER_BLOCK, len(shard.users)))
            columns = log_columns(log.take(users), stream, shard.users[users])
            yield encode_block(LOG, stream.name, columns)
    for name, examples in shard.tables.splits.items():
        for start in range(0, len(examples), EXAMPLES_PER_BLOCK):
            part = slice(start, start + EXAMPLES_PER_BLOCK)
            block = examples.take(np.arange(len(examples))[part])
            columns = example_columns(
                block, schema, shard.users[block.users], shard.rows[name][part]
            )
            yield encode_block(EXAMPLES, name, columns)


def write_shard(path: pathlib.Path, blocks: Iterator[bytes]) -> None:
    """Write records to a new ArrayRecord file."""
    # Blocks are large: one a group keeps them separately readable.
    writer = ArrayRecordWriter(str(path), "group_size:1")
    try:
        for block in blocks:
            writer.write(block)
    finally:
        writer.close()


def read_blocks(path: pathlib.Path) -> Iterator[Block]:
    """Read and decode every record of a shard.

    Raises:
        DatasetError: On a damaged file or record; names both.
    """
    record = 0
    try:
        reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
        try:
            for record in range(reader.num_records()):
                yield decode_block(reader.read([record])[0])
        finally:
            reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
        raise DatasetError(f"{path}: record {record} is damaged: {error}") from error
