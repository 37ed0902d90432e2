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
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, no_type_check

import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.reading.gather import Columns
from kunlun_jax.data.reading.request_counts import complete_counts
from kunlun_jax.data.reading.request_histories import Histories
from kunlun_jax.data.reading.request_table import Repeated, RequestTable
from kunlun_jax.data.reading.request_values import (
    RequestError,
    known_ids,
    numbers,
    require_known,
    second,
    shape_of,
)
from kunlun_jax.data.schema import Schema, SparseFeature
from kunlun_jax.data.tables import Examples


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
        _require_features(request, index, schema)
        _require_events(request, index, schema)
    by_identity = Repeated.by_identity
    features = {
        field: {
            name: by_identity(getattr(r, field).get(name) for r in requests)
            for name in dict.fromkeys(name for r in requests for name in getattr(r, field))
        }
        for field in ("dense", "sparse")
    }
    times, events = (by_identity(getattr(r, x) for r in requests) for x in ("time", "events"))
    histories = Histories.read(events.values, schema, max_lens, events.first)
    return _columns(RequestTable(times, events, **features), histories, schema)


def read_user(user: Request, schema: Schema, max_lens: dict[str, int]) -> Histories:
    """Read the histories of one user, once for any candidates and times.

    Args:
        user: A request, of which only the events matter.
        schema: As of `batch_requests`.
        max_lens: Likewise.

    Raises:
        RequestError: On what contradicts the schema.
    """
    _require_events(user, 0, schema)
    return Histories.read([user.events], schema, max_lens)


def candidate_columns(
    user: Request, histories: Histories, candidates: Mapping[str, Sequence[Any]], schema: Schema
) -> Columns:
    """Turn one user's candidates into columns, as `request_columns` does with requests.

    Args:
        user: What all requests share.
        histories: Its events, as `read_user` returned them.
        candidates: By context feature that the user does not have, one value a request; at least
            one feature, and one length.
        schema: As of `batch_requests`.

    Raises:
        RequestError: On what contradicts the schema.
    """
    _require_features(user, 0, schema)
    (count,) = {len(column) for column in candidates.values()}
    shared, own = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    features = {
        field: {name: Repeated([value], shared) for name, value in getattr(user, field).items()}
        | {f.name: Repeated(candidates[f.name], own) for f in described if f.name in candidates}
        for field, described in (("dense", schema.dense), ("sparse", schema.sparse))
    }
    table = RequestTable(Repeated([user.time], shared), Repeated([user.events], shared), **features)
    return _columns(table, histories, schema)


def _require_features(request: Request, index: int, schema: Schema) -> None:
    """Refuse features of the context that the schema does not have."""
    subject = f"request {index}"
    require_known(f"{subject}: dense", request.dense, [f.name for f in schema.dense])
    require_known(f"{subject}: sparse", request.sparse, [f.name for f in schema.sparse])


def _require_events(request: Request, index: int, schema: Schema) -> None:
    """Refuse streams that the schema does not have, and those that are no `Events`."""
    subject = f"request {index}"
    require_known(f"{subject}: events", request.events, [s.name for s in schema.streams])
    for name, events in request.events.items():
        if not isinstance(events, Events):
            raise RequestError(f"{subject}: stream {name!r}: expected Events, got {events!r:.60}")


def _columns(table: RequestTable, histories: Histories, schema: Schema) -> Columns:
    given_times = enumerate(table.times.values)
    seconds = [second(x, f"request {table.times.first(i)}: time") for i, x in given_times]
    times, users = np.array(seconds)[table.times.rows], table.events.rows
    ends = {name: histories.ends(name, users, times) for name in histories.logs}
    examples = _examples(table, times, ends, schema)
    dense = complete_counts(examples.dense, examples, schema, histories)
    examples = dataclasses.replace(examples, dense=standardize(dense, schema.dense))
    numbers = np.arange(len(table.events.values), dtype=np.int32)
    return Columns(schema, examples, numbers, histories.padded)


def _examples(
    table: RequestTable, times: np.ndarray, ends: dict[str, np.ndarray], schema: Schema
) -> Examples:
    """Return the requests as examples; dense features are raw, NaN where not given."""
    count = len(table)
    dense = np.full((count, len(schema.dense)), np.nan, np.float32)
    for i, feature in enumerate(schema.dense):
        if feature.name in table.dense:
            column = table.dense[feature.name]
            where = f"dense {feature.name!r}"
            found = numbers(
                column.values, lambda n, c=column, w=where: f"request {c.first(n)}: {w}"
            )
            dense[:, i] = found[column.rows]
    sparse, lengths = {}, {}
    for feature in schema.sparse:
        column = table.sparse.get(feature.name, Repeated([None], np.zeros(count, np.int32)))
        sparse[feature.name], lengths[feature.name] = _values(column, feature, schema)
    return Examples(
        users=table.events.rows,
        request_times=times,
        labels=np.zeros((count, len(schema.labels)), np.float32),
        weights=np.ones(count, np.float32),
        dense=dense,
        sparse=sparse,
        sparse_lengths=lengths,
        ends=ends,
    )


def _values(
    column: Repeated, feature: SparseFeature, schema: Schema
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids [n, max_values] and lengths [n] of a context feature."""
    if set(map(type, column.values)) == {int}:  # an id each: all at once, which is much faster
        known = known_ids(column.values, feature.vocabulary, schema, "")
        ids = np.zeros((len(known), feature.max_values), known.dtype)
        ids[:, 0] = known
        return ids[column.rows], np.ones(len(column.rows), np.int32)
    given = _lists(column.values)
    flat = list(itertools.chain.from_iterable(given))
    if set(map(type, flat)) <= {int}:  # all at once, which is much faster
        known = known_ids(flat, feature.vocabulary, schema, "")
    else:
        where = f"sparse {feature.name!r}"
        parts = [
            known_ids(values, feature.vocabulary, schema, f"request {column.first(row)}: {where}")
            for row, values in enumerate(given)
        ]
        known = np.concatenate(parts)
    counts = np.fromiter(map(len, given), np.int64, len(given))
    if feature.max_values == 1 and (counts == 1).all():
        ids = known[:, None]
    else:
        place = np.arange(len(known)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = place < feature.max_values
        ids = np.zeros((len(given), feature.max_values), known.dtype)
        ids[np.repeat(np.arange(len(given)), counts)[kept], place[kept]] = known[kept]
    lengths = np.minimum(counts, feature.max_values).astype(np.int32)
    return ids[column.rows], lengths[column.rows]


def _lists(values: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a context feature with a list of ids in the place of each."""
    kinds = set(map(type, values))
    if kinds == {list}:
        return values
    if kinds <= {int, str}:
        return [[value] for value in values]
    return [_listed(value) for value in values]


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iu":
        value = value.tolist()
    if value is None:
        return ()
    single = not isinstance(value, list) and (isinstance(value, int | str) or shape_of(value) == ())
    return [value] if single else value
