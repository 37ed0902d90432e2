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
    users, times = examples.users.astype(np.int64), examples.request_times
    owner = np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets))
    histories = {"": (History.build(owner, log.times, log.times), users)}
    for name in cross.ids:
        events, candidates = _pairs(owner, log.ids[name], users, examples.sparse[name][:, 0])
        known = events >= 0
        moments = log.times[known]
        histories[name] = History.build(events[known], moments, moments), candidates
    found = [
        _columns(cross, history, candidates, times) for history, candidates in histories.values()
    ]
    return np.concatenate(found).T.astype(np.float32)


def _columns(cross: Cross, history: History, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return [columns, n], those of one id, all windows at once."""
    starts = [times - days * DAY for days in cross.windows]
    if cross.whole:
        starts = [np.full_like(times, history.origin), *starts]
    found = history.count(keys, np.array(starts, np.int64).reshape(len(starts), len(times)), times)
    if not cross.ages:
        return found
    return np.concatenate([found, [(times - history.latest(keys, times)) / DAY]])


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


def _pairs(
    owner: np.ndarray, ids: np.ndarray, users: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Number (user, id), of events and of examples alike; -1 where nothing is to be equal."""
    # Numbered anew: pairs of hashed ids (`hashing.py`) are as large as int64 goes.
    levels = np.unique(ids)
    stride = max(len(levels), 1)
    events = np.where(ids != OOV_ID, owner * stride + np.searchsorted(levels, ids), -1)
    place = np.minimum(np.searchsorted(levels, candidates), stride - 1)
    known = (candidates != OOV_ID) & (levels[place] == candidates if len(levels) else False)
    return events, np.where(known, users * stride + place, -1)
