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
    count feature likewise                               computed from the events: give all of them
    stream missing or empty                              an empty history
    events in any order                                  ordered by time, ties as they come
    events at or after the request                       left out: training never sees the future
    more than `max_len` events                           the most recent ones
    attribute of events missing                          out of vocabulary, or the mean

What can only be a mistake is refused: a name the schema does not know, a value of another type,
columns of different lengths, a time that is not in seconds, count features that contradict the
events or each other (`request_counts.py`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.hashing import id_dtypes
from kunlun_jax.data.reading.gather import Columns, padded_log
from kunlun_jax.data.reading.request_counts import complete_counts
from kunlun_jax.data.reading.request_values import (
    RequestError,
    integers,
    known_ids,
    numbers,
    require_known,
    require_seconds,
    second,
    shape_of,
)
from kunlun_jax.data.schema import OOV_ID, EventStream, Schema, SparseFeature
from kunlun_jax.data.tables import EventLog, Examples


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
        NumPy arrays; labels are 0, and `user_ids` number the histories.

    Raises:
        RequestError: On a request that contradicts the schema, or a wrong number of them.
    """
    size = len(requests) if batch_size is None else batch_size
    if not 0 < len(requests) <= size:
        raise RequestError(f"requests: expected 1 .. {size or 'more'}, got {len(requests)}")
    columns = request_columns(requests, schema, max_lens)
    position = np.arange(size)
    rows = np.minimum(position, len(requests) - 1)
    lengths = {s.name: max_lens[s.name] for s in schema.streams if s.name in max_lens}
    return columns.batch(rows, position < len(requests), lengths)


def request_columns(
    requests: Sequence[Request], schema: Schema, max_lens: dict[str, int]
) -> Columns:
    """Turn requests into columns, from which batches are gathered as from a data set's.

    Requests whose `events` are the very same object share one history. It is read once, and so is
    a value of the context that requests share.

    Args:
        requests: At least one.
        schema: As of `batch_requests`.
        max_lens: Likewise.

    Returns:
        Examples in the order of the requests; labels are 0, and a user is a history.

    Raises:
        RequestError: On a request that contradicts the schema.
    """
    for index, request in enumerate(requests):
        subject = f"request {index}"
        require_known(f"{subject}: dense", request.dense, [f.name for f in schema.dense])
        require_known(f"{subject}: sparse", request.sparse, [f.name for f in schema.sparse])
        require_known(f"{subject}: events", request.events, [s.name for s in schema.streams])
        for name, events in request.events.items():
            if not isinstance(events, Events):
                raise RequestError(
                    f"{subject}: stream {name!r}: expected Events, got {events!r:.60}"
                )
    times = np.array([second(r.time, f"request {i}: time") for i, r in enumerate(requests)])
    users, firsts = _by_identity([request.events for request in requests])
    starts = np.cumsum(np.bincount(users))[:-1]
    histories, ends = {}, {}
    counted = {one.stream for one in (*schema.cross, *schema.popularity)}
    for stream in schema.streams:
        if stream.name in max_lens or stream.name in counted:
            parts = [
                _history(requests[i].events.get(stream.name, Events()), stream, schema, i)
                for i in firsts
            ]
            ends[stream.name] = np.zeros(len(requests), np.int32)
            for user, rows in enumerate(np.split(np.argsort(users, kind="stable"), starts)):
                ends[stream.name][rows] = np.searchsorted(parts[user].times, times[rows])
            histories[stream.name] = _joined(parts, stream)
    examples = _examples(requests, users, times, ends, schema)
    dense = complete_counts(examples.dense, examples, schema, histories)
    examples = dataclasses.replace(examples, dense=standardize(dense, schema.dense))
    logs = {
        stream.name: padded_log(histories[stream.name], stream, max_lens[stream.name])
        for stream in schema.streams
        if stream.name in max_lens
    }
    return Columns(schema, examples, np.arange(len(firsts), dtype=np.int32), logs)


def _examples(
    requests: Sequence[Request],
    users: np.ndarray,
    times: np.ndarray,
    ends: dict[str, np.ndarray],
    schema: Schema,
) -> Examples:
    """Return the requests as examples; dense features are raw, NaN where not given."""
    count = len(requests)
    dense = np.full((count, len(schema.dense)), np.nan, np.float32)
    for i, feature in enumerate(schema.dense):
        values = [r.dense.get(feature.name) for r in requests]
        dense[:, i] = numbers(values, lambda n, f=feature: f"request {n}: dense {f.name!r}")
    sparse, lengths = {}, {}
    for feature in schema.sparse:
        sparse[feature.name], lengths[feature.name] = _values(requests, feature, schema)
    return Examples(
        users=users,
        request_times=times,
        labels=np.zeros((count, len(schema.labels)), np.float32),
        weights=np.ones(count, np.float32),
        dense=dense,
        sparse=sparse,
        sparse_lengths=lengths,
        ends=ends,
    )


def _values(
    requests: Sequence[Request], feature: SparseFeature, schema: Schema
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids [n, max_values] and lengths [n] of a context feature."""
    index_of, firsts = _by_identity([r.sparse.get(feature.name) for r in requests])
    ids = np.zeros((len(firsts), feature.max_values), id_dtypes(schema)[feature.vocabulary])
    lengths = np.zeros(len(firsts), np.int32)
    given: dict[int, Any] = {}
    for row, first in enumerate(firsts):
        value = requests[first].sparse.get(feature.name)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iu":
            value = value.tolist()
        if value is not None:
            single = isinstance(value, int | str) or (
                not isinstance(value, list) and shape_of(value) == ()
            )
            given[row] = [value] if single else value
    flat = [value for values in given.values() for value in values]
    if all(type(value) is int for value in flat):  # all at once, which is much faster
        known = iter(known_ids(flat, feature.vocabulary, schema, "").tolist())
        encoded = {row: [next(known) for _ in values] for row, values in given.items()}
    else:
        encoded = {
            row: known_ids(
                values,
                feature.vocabulary,
                schema,
                f"request {firsts[row]}: sparse {feature.name!r}",
            )
            for row, values in given.items()
        }
    for row, known in encoded.items():
        lengths[row] = min(len(known), feature.max_values)
        ids[row, : lengths[row]] = known[: feature.max_values]
    return ids[index_of], lengths[index_of]


def _by_identity(values: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
    """Index objects in the order in which they come: int32 [n], and the first index of each.

    The very same object has one index; what is equal but another one need not.
    """
    known: dict[int, int] = {}
    indices = [known.setdefault(id(value), len(known)) for value in values]
    firsts = np.unique(indices, return_index=True)[1].tolist()
    return np.array(indices, np.int32), firsts


def _joined(parts: Sequence[EventLog], stream: EventStream) -> EventLog:
    """Return the logs of single users as one."""
    sizes = [len(part.times) for part in parts]
    return EventLog(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        times=np.concatenate([part.times for part in parts]),
        ids={f.name: np.concatenate([part.ids[f.name] for part in parts]) for f in stream.ids},
        dense=np.concatenate([part.dense for part in parts]),
    )


def _history(events: Events, stream: EventStream, schema: Schema, number: int) -> EventLog:
    """Return the events of one request, encoded and in order."""
    subject = f"request {number}: stream {stream.name!r}"
    times = integers(events.times, f"{subject}: times")
    if times.size:
        require_seconds(times.max(), f"{subject}: times")
    times = times.astype(np.int64)
    require_known(f"{subject}: ids", events.ids, [f.name for f in stream.ids])
    require_known(f"{subject}: dense", events.dense, [f.name for f in stream.dense])
    for name, column in (*events.ids.items(), *events.dense.items()):
        shape = shape_of(column)
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
        ids[feature.name] = known_ids(column, feature.vocabulary, schema, where)[order]
    dense = np.full((len(times), len(stream.dense)), np.nan, np.float32)
    for i, attribute in enumerate(stream.dense):
        if attribute.name in events.dense:
            where = f"{subject}: {attribute.name!r}"
            dense[:, i] = numbers(events.dense[attribute.name], lambda n, w=where: f"{w}[{n}]")
    return EventLog(np.array([0, len(times)]), times[order], ids, dense[order])
