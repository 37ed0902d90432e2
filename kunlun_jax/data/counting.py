"""Computes cross features (`cross.py`): one way for every build and for requests."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.schema import OOV_ID, Schema
from kunlun_jax.data.tables import EventLog, Examples
from kunlun_jax.data.windows import Moments

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
    """The events that a declaration counts, sorted once; what candidates meet is then bisected.

    An event is in several groups: that of its user, and for each id that of its user and its value.
    Groups are numbered through, so that one search finds all columns of all candidates. Numbers
    are those of groups that have events: a product of users, values and seconds may be past int64.
    """

    def __init__(self, cross: Cross, log: EventLog) -> None:
        """Sort the events by group and time.

        Args:
            cross: The declaration.
            log: All events of its stream, as ids.
        """
        self._cross = cross
        num_users = len(log.offsets) - 1
        owner = np.repeat(np.arange(num_users), np.diff(log.offsets))
        groups, times, first = [owner], [log.times], num_users
        self._ids: dict[str, tuple[int, np.ndarray]] = {}  # by id: first group, values ascending
        for name in cross.ids:
            values, number = np.unique(log.ids[name], return_inverse=True)
            known = log.ids[name] != OOV_ID
            groups.append((first + owner * len(values) + number)[known])
            times.append(log.times[known])
            self._ids[name] = first, values
            first += num_users * len(values)
        self._groups, number = np.unique(np.concatenate(groups), return_inverse=True)
        self._moments = Moments.build(number, np.concatenate(times))

    def columns(self, examples: Examples) -> np.ndarray:
        """Return float32 [n, columns], as `count_columns`.

        Args:
            examples: Users, times and candidates.
        """
        cross, moments = self._cross, self._moments
        users, times = examples.users.astype(np.int64), examples.request_times
        groups = [users]
        for name, (first, values) in self._ids.items():
            number = _positions(values, examples.sparse[name][:, 0])
            groups.append(np.where(number < 0, -1, first + users * len(values) + number))
        keys = _positions(self._groups, np.stack(groups))  # [1 + ids, n]
        starts = [times - days * DAY for days in cross.windows]
        if cross.whole:
            starts = [np.full_like(times, moments.origin), *starts]
        *before, now = moments.position(keys, np.stack([*starts, times])[:, None])
        found = [now - start for start in before]
        if cross.ages:
            found.append((times - moments.latest(keys, now)) / DAY)
        columns = np.stack(found, axis=1).astype(np.float32)  # [1 + ids, columns of each, n]
        return columns.reshape(len(cross.columns), len(times)).T


def _positions(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return where values stand in an array, -1 for what does not."""
    if not len(ascending):
        return np.full(values.shape, -1)
    position = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[position] == values, position, -1)


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
        moments = Moments.build(events[known], event_times[known])
        result[:, i] = moments.count(offered, times - column.days * DAY, times)
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
