"""Computes cross features (`cross.py`): one way for every build and for requests."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.schema import OOV_ID, Schema
from kunlun_jax.data.tables import EventLog, Examples
from kunlun_jax.data.windows import History

DAY = 86400
Keys = Mapping[str, tuple[np.ndarray, np.ndarray]]


def count_columns(cross: Cross, log: EventLog, examples: Examples) -> np.ndarray:
    """Compute the columns of a declaration.

    Args:
        cross: The declaration.
        log: All events of its stream, as ids.
        examples: Users, times and candidates.

    Returns:
        float32 [n, columns], raw: counts; ages in days, NaN where there is no event.
    """
    return CountIndex(cross, log).columns(examples)


class CountIndex:
    """The events that a declaration counts, sorted once; what candidates meet is then bisected."""

    def __init__(self, cross: Cross, log: EventLog) -> None:
        """Sort the events by user, and by user and each id.

        Args:
            cross: The declaration.
            log: All events of its stream, as ids.
        """
        self._cross = cross
        owner = np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets))
        self._all = History.build(owner, log.times, log.times)
        self._by_id = {name: _UserAndId(owner, log.ids[name], log.times) for name in cross.ids}

    def columns(self, examples: Examples) -> np.ndarray:
        """Return float32 [n, columns], as `count_columns`.

        Args:
            examples: Users, times and candidates.
        """
        users, times = examples.users.astype(np.int64), examples.request_times
        asked = [(self._all, users)]
        for name, events in self._by_id.items():
            asked.append((events.history, events.keys(users, examples.sparse[name][:, 0])))
        found = [_columns(self._cross, history, keys, times) for history, keys in asked]
        return np.concatenate(found).T.astype(np.float32)


class _UserAndId:
    """Events by pair of user and id; the pairs are numbered, and -1 equals nothing.

    Ids are numbered anew: pairs of hashed ids (`hashing.py`) are as large as int64 goes.
    """

    def __init__(self, owner: np.ndarray, ids: np.ndarray, times: np.ndarray) -> None:
        self._levels, number = np.unique(ids, return_inverse=True)
        self._stride = max(len(self._levels), 1)
        known = ids != OOV_ID
        pairs, moments = (owner * self._stride + number)[known], times[known]
        self.history = History.build(pairs, moments, moments)

    def keys(self, users: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return int64 [n], the pairs of examples."""
        if not len(self._levels):
            return np.full(len(users), -1)
        number = np.minimum(np.searchsorted(self._levels, ids), self._stride - 1)
        known = (ids != OOV_ID) & (self._levels[number] == ids)
        return np.where(known, users * self._stride + number, -1)


def _columns(cross: Cross, history: History, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return [columns, n], those of one id, all windows at once."""
    starts = [times - days * DAY for days in cross.windows]
    if cross.whole:
        starts = [np.full_like(times, history.origin), *starts]
    *before, now = history.position(keys, np.stack([*starts, times]))
    found = [now - start for start in before]
    if cross.ages:
        found.append((times - history.latest(keys, now)) / DAY)
    return np.array(found)


def popularity_columns(
    popularity: Popularity, event_times: np.ndarray, keys: Keys, times: np.ndarray
) -> np.ndarray:
    """Compute the columns of a declaration.

    Args:
        popularity: The declaration.
        event_times: int64 [events], Unix seconds, of all events of its stream.
        keys: By id, what each event is of, int [events], and what is offered, int [n]; equal
            numbers are equal values, and -1 equals nothing.
        times: int64 [n], Unix seconds of the requests.

    Returns:
        float32 [n, columns].
    """
    result = np.empty((len(times), len(popularity.columns)), np.float32)
    for i, column in enumerate(popularity.columns):
        events, offered = keys[column.id]
        known = events >= 0
        history = History.build(events[known], event_times[known], event_times[known])
        result[:, i] = history.count(offered, times - column.days * DAY, times)
    return result


def with_columns(
    examples: Examples, schema: Schema, logs: Mapping[str, EventLog], popularity: np.ndarray
) -> Examples:
    """Return examples whose dense features end with all that the schema declares.

    Args:
        examples: The examples; `dense` holds the other features.
        schema: The schema.
        logs: All events by stream.
        popularity: float32 [n, columns], the columns of `schema.popularity`.
    """
    counts = [count_columns(cross, logs[cross.stream], examples) for cross in schema.cross]
    dense = np.concatenate([examples.dense, *counts, popularity], axis=1)
    return dataclasses.replace(examples, dense=dense)
