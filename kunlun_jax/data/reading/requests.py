"""Raw requests at serving time, turned into the batch that training would have made of them.

    batch = batch_requests([Request(time=1_700_000_000, sparse={"item": 17})], schema,
                           max_lens={"click": 64})

What a request may lack or overdo has a defined meaning:

    id that no row stands for (-1, past the end, 2^40)   the out-of-vocabulary row, 0
    text, of a hashed vocabulary                         hashed as the build hashes it; None among
                                                         texts is out of vocabulary
    sparse feature missing, None or empty                no value: pools to 0
    more than `max_values` values                        the first ones
    dense feature missing, None, NaN or infinite         the mean of the training split
    stream missing or empty                              an empty history
    events in any order                                  ordered by time, ties as they come
    events at or after the request                       left out: training never sees the future
    more than `max_len` events                           the most recent ones
    attribute of events missing                          out of vocabulary, or the mean

What can only be a mistake is refused: a name the schema does not know, a value of another type,
columns of different lengths, a time that is not in seconds.
"""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.hashing import hashed_ids, id_dtypes, is_known
from kunlun_jax.data.reading.gather import Columns, padded_log
from kunlun_jax.data.schema import OOV_ID, EventStream, Schema, SparseFeature
from kunlun_jax.data.tables import EventLog, Examples

# Year 5138 in seconds; the time in milliseconds passed it in March 1973.
LATEST_SECOND = 100_000_000_000


class RequestError(ValueError):
    """A request that contradicts the schema; the message names request, field, expected and got."""


# Requests come from outside: what is wrong with them is said by `batch_requests`.
@no_type_check
@dataclasses.dataclass(frozen=True)
class Events:
    """The history of one stream, as columns of one length.

    Attributes:
        times: Unix seconds, in any order.
        ids: By event id feature, integers; or texts, where the vocabulary is hashed.
        dense: By attribute, raw numbers.
    """

    times: Sequence[int] | np.ndarray = ()
    ids: Mapping[str, Sequence[int] | Sequence[str | None] | np.ndarray] = dataclasses.field(
        default_factory=dict
    )
    dense: Mapping[str, Sequence[float | None] | np.ndarray] = dataclasses.field(
        default_factory=dict
    )


@no_type_check
@dataclasses.dataclass(frozen=True)
class Request:
    """One candidate item in one context, for one user.

    Attributes:
        time: Unix seconds.
        dense: By context feature, a raw number.
        sparse: By context feature, one integer or several; or text, likewise.
        events: Histories by stream.
    """

    time: int
    dense: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    sparse: Mapping[str, int | str | Sequence[int] | Sequence[str] | np.ndarray | None] = (
        dataclasses.field(default_factory=dict)
    )
    events: Mapping[str, Events] = dataclasses.field(default_factory=dict)


def batch_requests(
    requests: Sequence[Request],
    schema: Schema,
    *,
    max_lens: dict[str, int],
    batch_size: int | None = None,
) -> Batch:
    """Turn requests into a batch, by the rules above and through the pipeline's own code.

    Args:
        requests: At least one.
        schema: The data set's schema, with the mean and std of every dense feature.
        max_lens: By stream, the events that the model takes; the model's streams, as in training.
        batch_size: Fill up to that many examples, with weight 0, so that a compiled model meets
            one shape only; by default no filling.

    Returns:
        NumPy arrays; labels are 0, and `user_ids` number the requests.

    Raises:
        RequestError: On a request that contradicts the schema, or a wrong number of them.
    """
    size = len(requests) if batch_size is None else batch_size
    if not 0 < len(requests) <= size:
        raise RequestError(f"requests: expected 1 .. {size or 'more'}, got {len(requests)}")
    for index, request in enumerate(requests):
        subject = f"request {index}"
        _require_known(f"{subject}: dense", request.dense, [f.name for f in schema.dense])
        _require_known(f"{subject}: sparse", request.sparse, [f.name for f in schema.sparse])
        _require_known(f"{subject}: events", request.events, [s.name for s in schema.streams])
        for name, events in request.events.items():
            if not isinstance(events, Events):
                raise RequestError(
                    f"{subject}: stream {name!r}: expected Events, got {events!r:.60}"
                )
    times = np.array([_time(r.time, f"request {i}: time") for i, r in enumerate(requests)])
    logs, ends = {}, {}
    for stream in schema.streams:
        if stream.name in max_lens:
            log, ends[stream.name] = _log(requests, times, stream, schema)
            logs[stream.name] = padded_log(log, stream, max_lens[stream.name])
    examples = _examples(requests, times, ends, schema)
    columns = Columns(schema, examples, logs)
    position = np.arange(size)
    rows = np.minimum(position, len(requests) - 1)
    lengths = {s.name: max_lens[s.name] for s in schema.streams if s.name in max_lens}
    return columns.batch(rows, position < len(requests), lengths)


def _examples(
    requests: Sequence[Request], times: np.ndarray, ends: dict[str, np.ndarray], schema: Schema
) -> Examples:
    count = len(requests)
    dense = np.full((count, len(schema.dense)), np.nan, np.float32)
    for i, feature in enumerate(schema.dense):
        values = [r.dense.get(feature.name) for r in requests]
        dense[:, i] = _numbers(values, lambda n, f=feature: f"request {n}: dense {f.name!r}")
    sparse, lengths = {}, {}
    for feature in schema.sparse:
        sparse[feature.name], lengths[feature.name] = _values(requests, feature, schema)
    return Examples(
        users=np.arange(count, dtype=np.int32),
        request_times=times,
        labels=np.zeros((count, len(schema.labels)), np.float32),
        weights=np.ones(count, np.float32),
        dense=standardize(dense, schema.dense),
        sparse=sparse,
        sparse_lengths=lengths,
        ends=ends,
    )


def _values(
    requests: Sequence[Request], feature: SparseFeature, schema: Schema
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids [n, max_values] and lengths [n] of a context feature."""
    ids = np.zeros((len(requests), feature.max_values), id_dtypes(schema)[feature.vocabulary])
    lengths = np.zeros(len(requests), np.int32)
    for row, request in enumerate(requests):
        value = request.sparse.get(feature.name)
        if value is None:
            continue
        values = [value] if _shape(value) == () and not isinstance(value, list) else value
        subject = f"request {row}: sparse {feature.name!r}"
        known = _known_ids(values, feature.vocabulary, schema, subject)[: feature.max_values]
        lengths[row] = len(known)
        ids[row, : len(known)] = known
    return ids, lengths


def _log(
    requests: Sequence[Request], times: np.ndarray, stream: EventStream, schema: Schema
) -> tuple[EventLog, np.ndarray]:
    """Return one log with the histories of all requests, and how much of it each one sees."""
    parts = [
        _history(request.events.get(stream.name, Events()), stream, schema, f"request {i}")
        for i, request in enumerate(requests)
    ]
    sizes = [len(part.times) for part in parts]
    ends = [np.sum(part.times < time) for part, time in zip(parts, times, strict=True)]
    log = EventLog(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        times=np.concatenate([part.times for part in parts]),
        ids={f.name: np.concatenate([part.ids[f.name] for part in parts]) for f in stream.ids},
        dense=np.concatenate([part.dense for part in parts]),
    )
    return log, np.array(ends, np.int32)


def _history(events: Events, stream: EventStream, schema: Schema, subject: str) -> EventLog:
    """Return the events of one request, encoded and in order."""
    subject = f"{subject}: stream {stream.name!r}"
    times = _integers(events.times, f"{subject}: times")
    if times.size:
        _require_seconds(times.max(), f"{subject}: times")
    times = times.astype(np.int64)
    _require_known(f"{subject}: ids", events.ids, [f.name for f in stream.ids])
    _require_known(f"{subject}: dense", events.dense, [f.name for f in stream.dense])
    for name, column in (*events.ids.items(), *events.dense.items()):
        shape = _shape(column)
        if shape != (len(times),):
            got = shape[0] if len(shape) == 1 else f"{column!r:.60}"
            raise RequestError(
                f"{subject}: {name!r}: expected {len(times)} values, one a time, got {got}"
            )
    order = np.argsort(times, kind="stable")
    ids = {}
    for feature in stream.ids:
        column = events.ids.get(feature.name, np.full(len(times), OOV_ID))
        where = f"{subject}: {feature.name!r}"
        ids[feature.name] = _known_ids(column, feature.vocabulary, schema, where)[order]
    dense = np.full((len(times), len(stream.dense)), np.nan, np.float32)
    for i, attribute in enumerate(stream.dense):
        if attribute.name in events.dense:
            where = f"{subject}: {attribute.name!r}"
            dense[:, i] = _numbers(events.dense[attribute.name], lambda n, w=where: f"{w}[{n}]")
    return EventLog(np.array([0, len(times)]), times[order], ids, dense[order])


def _known_ids(values: Any, vocabulary: str, schema: Schema, subject: str) -> np.ndarray:
    """Return ids, those without a row replaced by the OOV row, in 64 bits or more."""
    described = schema.vocabulary_by_name[vocabulary]
    dtype = id_dtypes(schema)[vocabulary]
    if described.hashes:
        texts = [value for value in values if isinstance(value, str)]
        given = [value is not None for value in values]
        if texts and len(texts) == sum(given):
            hashed = np.full(len(values), OOV_ID, dtype)
            hashed[given] = hashed_ids(texts, described)
            return hashed
    ids = _integers(values, subject)
    return np.where(is_known(ids, described), ids, OOV_ID).astype(dtype)


def _shape(values: Any) -> tuple[int, ...]:
    """Return the shape of what comes from outside; () of what is no array, as lists in lists."""
    try:
        return np.shape(values)
    except ValueError:
        return ()


def _integers(values: Any, subject: str) -> np.ndarray:
    array = np.asarray(values) if len(_shape(values)) == 1 else np.zeros((), object)
    if array.ndim != 1:
        raise RequestError(f"{subject}: expected a list of integers, got {values!r:.60}")
    if not array.size:
        return np.zeros(0, np.int64)
    # Python's integers past 64 bits make an array of objects.
    large = array.dtype == object and all(type(value) is int for value in array)
    if array.dtype.kind not in "iu" and not large:
        raise RequestError(f"{subject}: expected integers, got {values!r:.60}")
    return array


def _numbers(values: Any, subject: Any) -> np.ndarray:
    """Return float32, NaN for None; `subject` names the n-th value in the message."""
    flat = len(_shape(values)) == 1
    if not flat or np.asarray(values).dtype.kind not in "iuf":
        for index, value in enumerate(values):
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not real:
                raise RequestError(f"{subject(index)}: expected a number, got {value!r:.60}")
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(np.float32)
    except OverflowError as error:  # an integer of a thousand bits
        raise RequestError(f"{subject(0)}: expected numbers of 64 bits: {error}") from error


def _time(value: Any, subject: str) -> int:
    (time,) = _integers([value], subject)
    _require_seconds(time, subject)
    return int(time)


def _require_seconds(latest: Any, subject: str) -> None:
    if latest > LATEST_SECOND:
        raise RequestError(f"{subject}: expected Unix seconds, got {latest}")


def _require_known(subject: str, got: Any, known: list[str]) -> None:
    if not isinstance(got, Mapping):
        raise RequestError(f"{subject}: expected a mapping, got {got!r:.60}")
    unknown = sorted(set(got) - set(known), key=str)
    if unknown:
        raise RequestError(f"{subject}: expected names of {known}, got {unknown[0]!r}")
