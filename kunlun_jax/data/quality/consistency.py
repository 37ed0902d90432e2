"""Checks what a source produced before any of it is written."""

import numpy as np
import numpy.typing as npt

from kunlun_jax.data.hashing import is_known
from kunlun_jax.data.schema import (
    OOV_ID,
    EventId,
    EventStream,
    Schema,
    SchemaError,
    SparseFeature,
)
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, SourceTables

# Year 5138 in seconds; the time in milliseconds passed it in March 1973.
LATEST_SECOND = 100_000_000_000
ROWS_SHOWN = 5


class BadRowsError(SchemaError):
    """Rows that contradict the schema.

    Attributes:
        subject: Table and column.
        what: What the rows have.
        rows: [n], their indices.
    """

    def __init__(self, subject: str, what: str, rows: np.ndarray) -> None:
        shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN])
        super().__init__(f"{subject}: {len(rows)} rows with {what}, first: {shown}")
        self.subject, self.what, self.rows = subject, what, rows


def validate_tables(tables: SourceTables, rows: dict[str, np.ndarray] | None = None) -> None:
    """Check that logs and examples agree with the schema and with each other.

    Args:
        tables: The tables.
        rows: By split, [n], the indices by which messages call the examples; by default their
            indices.

    Raises:
        SchemaError: On the first contradiction, with the numbers of the rows concerned.
    """
    schema = tables.schema
    _same_names("streams", tables.logs, [s.name for s in schema.streams])
    _same_names("splits", tables.splits, list(SPLITS))
    for stream in schema.streams:
        log = tables.logs[stream.name]
        subject = f"stream {stream.name!r}"
        _same_names(f"{subject}: ids", log.ids, [f.name for f in stream.ids])
        columns = {"times": log.times, **log.ids}
        for name, column in columns.items():
            _shape(f"{subject}: {name}", column, (len(log.times),))
        _shape(f"{subject}: dense", log.dense, (len(log.times), len(stream.dense)))
        _check_log(subject, log, stream, tables.num_users)
        for feature in stream.ids:
            _check_ids(f"{subject}: {feature.name}", log.ids[feature.name], feature, schema)
    for name, examples in tables.splits.items():
        try:
            _check_examples(f"split {name!r}", examples, tables)
        except BadRowsError as error:
            if rows is None:
                raise
            raise BadRowsError(error.subject, error.what, rows[name][error.rows]) from error


def _check_log(subject: str, log: EventLog, stream: EventStream, num_users: int) -> None:
    _shape(f"{subject}: offsets", log.offsets, (num_users + 1,))
    if log.offsets[0] != 0 or log.offsets[-1] != len(log.times) or (np.diff(log.offsets) < 0).any():
        raise SchemaError(f"{subject}: offsets do not partition the {len(log.times)} events")
    _refuse(f"{subject}: times", "a time that is not in seconds", np.abs(log.times) > LATEST_SECOND)
    earlier = np.zeros(len(log.times), dtype=bool)
    earlier[1:] = log.times[1:] < log.times[:-1]
    first = log.offsets[:-1]
    earlier[first[first < len(earlier)]] = False
    _refuse(f"{subject}: times", "an event older than the one before it", earlier)
    for i, feature in enumerate(stream.dense):
        _refuse(f"{subject}: {feature.name}", "an infinite value", np.isinf(log.dense[:, i]))


def _check_examples(subject: str, examples: Examples, tables: SourceTables) -> None:
    schema, count = tables.schema, len(examples)
    _same_names(f"{subject}: sparse", examples.sparse, [f.name for f in schema.sparse])
    _same_names(f"{subject}: sparse_lengths", examples.sparse_lengths, list(examples.sparse))
    _same_names(f"{subject}: ends", examples.ends, [s.name for s in schema.streams])
    _shape(f"{subject}: labels", examples.labels, (count, len(schema.labels)))
    _shape(f"{subject}: dense", examples.dense, (count, len(schema.dense)))
    columns = {"request_times": examples.request_times, "weights": examples.weights}
    columns |= examples.ends | examples.sparse_lengths
    for name, column in columns.items():
        _shape(f"{subject}: {name}", column, (count,))
    times = examples.request_times
    _refuse(
        f"{subject}: request_times", "a time that is not in seconds", np.abs(times) > LATEST_SECOND
    )
    _refuse(subject, "a user out of range", _outside(examples.users, tables.num_users))
    for i, name in enumerate(schema.labels):
        wrong = ~np.isin(examples.labels[:, i], (0.0, 1.0))
        _refuse(f"{subject}: {name}", "a label that is not 0 or 1", wrong)
    _refuse(subject, "a bad weight", ~np.isfinite(examples.weights) | (examples.weights < 0))
    for i, feature in enumerate(schema.dense):
        _refuse(f"{subject}: {feature.name}", "an infinite value", np.isinf(examples.dense[:, i]))
    for feature in schema.sparse:
        ids, lengths = examples.sparse[feature.name], examples.sparse_lengths[feature.name]
        _shape(f"{subject}: {feature.name}", ids, (count, feature.max_values))
        _refuse(f"{subject}: {feature.name}", "a bad length", _outside(lengths, ids.shape[1] + 1))
        _check_ids(f"{subject}: {feature.name}", ids, feature, schema)
        padding = np.arange(ids.shape[1]) >= lengths[:, None]
        filled = (padding & (ids != 0)).any(1)
        _refuse(f"{subject}: {feature.name}", "padding that is not 0", filled)
    for name, end in examples.ends.items():
        log = tables.logs[name]
        start, stop = log.offsets[examples.users], log.offsets[examples.users + 1]
        what = f"{subject}: stream {name!r}"
        _refuse(what, "an end outside the user's log", (end < 0) | (start + end > stop))
        padded = np.append(log.times, 0)
        late = (end > 0) & (padded[np.where(end > 0, start + end - 1, -1)] >= times)
        _refuse(what, "an event at or after the request", late)


def _check_ids(
    subject: str, ids: np.ndarray, feature: EventId | SparseFeature, schema: Schema
) -> None:
    vocabulary = schema.vocabulary_by_name[feature.vocabulary]
    bad = ~is_known(ids, vocabulary) & (ids != OOV_ID)
    what = f"an id outside 0 .. {vocabulary.num_ids}"
    _refuse(subject, what, bad.any(axis=1) if bad.ndim == 2 else bad)


def _outside(values: np.ndarray, stop: int) -> np.ndarray:
    return (values < 0) | (values >= stop)


def _refuse(subject: str, what: str, bad: npt.ArrayLike) -> None:
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        raise BadRowsError(subject, what, rows)


def _shape(subject: str, column: np.ndarray, expected: tuple[int, ...]) -> None:
    if column.shape != expected:
        raise SchemaError(f"{subject}: expected shape {expected}, got {column.shape}")


def _same_names(subject: str, got: dict, expected: list[str]) -> None:
    if set(got) != set(expected):
        raise SchemaError(f"{subject}: expected {sorted(expected)}, got {sorted(got)}")
