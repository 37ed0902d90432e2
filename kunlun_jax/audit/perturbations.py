"""What an audit takes away from the histories of a batch: pure functions (batch, seed) -> batch.

Nothing else changes: context, labels, weights and users stay, and so do the shapes. A function that
draws does so from its seed alone. Three of them take order and time apart. An event is a position
in the history, an age, and what happened (its ids and attributes):

    times_shuffled            ages are dealt anew: time is wrong, the order of what happened stands
    order_shuffled            events change positions and keep their ages: a model that sorts by
                              age, as those of one merged sequence do, is not affected
    order_and_times_shuffled  what happened is dealt anew to the positions with their ages: both are
                              wrong, and times still ascend, so it is the cleanest of the three
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kunlun_jax.data.batch import Batch, EventBatch
from kunlun_jax.data.reading.gather import matching

Seed = Sequence[int]
Perturbation = Callable[[Batch, Seed], Batch]


def perturbations(streams: Sequence[str]) -> dict[str, Perturbation]:
    """Return what an audit does to a model, by the names in its report.

    Args:
        streams: The streams that the model reads.
    """
    found: dict[str, Perturbation] = {
        "timestamps shuffled": times_shuffled,
        "event order shuffled": order_shuffled,
        "order and timestamps shuffled": order_and_times_shuffled,
        "only the last event": only_last_event,
        "histories swapped between users": histories_swapped,
    }
    for name in streams:
        found[f"without {name}"] = _dropping((name,))
    if len(streams) > 1:
        found["without any history"] = _dropping(tuple(streams))
    return found


def times_shuffled(batch: Batch, seed: Seed) -> Batch:
    """Permute the ages among the events of every history."""

    def shuffle(events: EventBatch, order: np.ndarray) -> EventBatch:
        return dataclasses.replace(events, ages=_gather(events.ages, order))

    return _shuffled(batch, seed, shuffle)


def order_shuffled(batch: Batch, seed: Seed) -> Batch:
    """Permute the events of every history, each with its age."""
    return _shuffled(batch, seed, _rearrange)


def order_and_times_shuffled(batch: Batch, seed: Seed) -> Batch:
    """Permute what happened in every history, and leave the ages where they are."""

    def shuffle(events: EventBatch, order: np.ndarray) -> EventBatch:
        return dataclasses.replace(_rearrange(events, order), ages=events.ages)

    return _shuffled(batch, seed, shuffle)


def without_streams(batch: Batch, names: Sequence[str]) -> Batch:
    """Empty the histories of some streams."""
    empty = {n: jax.tree.map(np.zeros_like, batch.streams[n]) for n in names}
    return _with_streams(batch, {**batch.streams, **empty})


def only_last_event(batch: Batch, seed: Seed = ()) -> Batch:
    """Keep the newest event of every stream."""
    del seed

    def last(events: EventBatch) -> EventBatch:
        lengths = np.asarray(events.lengths)
        column = np.arange(np.shape(events.ages)[1])
        # The newest event moves to the front; behind it stand zeros.
        order = np.where(column == 0, np.maximum(lengths - 1, 0)[:, None], column)
        gone = column >= np.minimum(lengths, 1)[:, None]

        def cut(values: Any) -> np.ndarray:
            return np.where(_like(gone, values), np.zeros((), values.dtype), values)

        kept = jax.tree.map(cut, dataclasses.replace(_rearrange(events, order), lengths=None))
        return dataclasses.replace(kept, lengths=np.minimum(lengths, 1))

    return _with_streams(batch, {name: last(e) for name, e in batch.streams.items()})


def histories_swapped(batch: Batch, seed: Seed, names: Sequence[str] | None = None) -> Batch:
    """Give every example the whole history of an example of another user.

    Of the named streams; by default of all of them.

    Where no user has more than half of the examples, histories are permuted: each is used once.
    Otherwise the others' are used repeatedly; and a batch of a single user keeps its own. Ages
    stay those before the request that the history comes from; what matches is asked anew, of the
    example's own candidate. Padding (weight 0) is left alone.
    """
    chosen, donors = batch.streams if names is None else names, other_users(batch, seed)
    given = {n: jax.tree.map(lambda x: np.asarray(x)[donors], batch.streams[n]) for n in chosen}
    return matched_anew(_with_streams(batch, {**batch.streams, **given}))


def other_users(batch: Batch, seed: Seed) -> np.ndarray:
    """Return int64 [B], for every example one of another user, as `histories_swapped` has them.

    Args:
        batch: The batch.
        seed: Seed of the draw.
    """
    rows = np.flatnonzero(np.asarray(batch.weights) > 0)
    donors = np.arange(len(batch.weights))
    donors[rows] = rows[_of_other_users(np.asarray(batch.user_ids)[rows], seed)]
    return donors


def matched_anew(batch: Batch) -> Batch:
    """Tell anew which events have an id of the candidate, after ids have changed."""

    def match(events: EventBatch) -> EventBatch:
        candidate = {name: np.asarray(batch.sparse[name].ids) for name in events.matches}
        matches = {n: matching(np.asarray(events.ids[n]), ids) for n, ids in candidate.items()}
        return dataclasses.replace(events, matches=matches)

    return _with_streams(batch, {name: match(events) for name, events in batch.streams.items()})


def _of_other_users(users: np.ndarray, seed: Seed) -> np.ndarray:
    """Return, for every example, one of another user."""
    rng, count = np.random.default_rng(seed), len(users)
    _, users = np.unique(users, return_inverse=True)
    if not count or users.max() == 0:
        return np.arange(count)
    # Users in random order, and everyone's examples next to each other in random order.
    order = np.lexsort((rng.random(count), rng.permutation(users.max() + 1)[users]))
    grouped = users[order]
    starts = np.flatnonzero(np.append(True, grouped[1:] != grouped[:-1]))
    sizes = np.diff(np.append(starts, count))
    position, size = np.arange(count), np.repeat(sizes, sizes)
    inside, end = position - np.repeat(starts, sizes), np.repeat(starts + sizes, sizes)
    half = 2 * sizes.max() <= count
    donor = position + sizes.max() if half else end + inside % (count - size)
    result = np.empty(count, np.int64)
    result[order] = order[donor % count]
    return result


def _dropping(names: tuple[str, ...]) -> Perturbation:
    return lambda batch, seed: without_streams(batch, names)


def _shuffled(
    batch: Batch, seed: Seed, change: Callable[[EventBatch, np.ndarray], EventBatch]
) -> Batch:
    """Apply a change to every stream, with a random order of the real events of every history."""
    rng = np.random.default_rng(seed)
    streams = {}
    for name, events in batch.streams.items():
        ages = np.asarray(events.ages)
        padding = np.arange(ages.shape[1]) >= np.asarray(events.lengths)[:, None]
        # Padding sorts behind all events, and in its own order.
        order = np.argsort(np.where(padding, 1.0, rng.random(ages.shape)), axis=1, kind="stable")
        streams[name] = change(events, order)
    return _with_streams(batch, streams)


def _rearrange(events: EventBatch, order: np.ndarray) -> EventBatch:
    """Return the events with order[b, t] in position t."""
    without_lengths = dataclasses.replace(events, lengths=None)
    moved = jax.tree.map(lambda x: _gather(x, order), without_lengths)
    return dataclasses.replace(moved, lengths=events.lengths)


def _with_streams(batch: Batch, streams: Mapping[str, EventBatch]) -> Batch:
    return dataclasses.replace(batch, streams=streams)


def _gather(values: Any, order: np.ndarray) -> Any:
    return np.take_along_axis(np.asarray(values), _like(order, values), axis=1)


def _like(index: np.ndarray, values: Any) -> np.ndarray:
    """Give [B, T] as many axes as the values have."""
    return index.reshape(*index.shape, *(1,) * (values.ndim - 2))
