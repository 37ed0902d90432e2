"""Turns raw values into ids of a vocabulary, and events into logs."""

import numpy as np

from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.data.tables import EventLog


def index_of(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the positions of values in an ascending array, -1 where absent."""
    if not len(ascending):
        return np.full(len(values), -1, dtype=np.int64)
    position = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[position] == values, position, -1)


def encode(values: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the values that training has seen 1, 2, ... in ascending order.

    Args:
        values: [n] raw values.
        seen: bool [n], which rows training sees.

    Returns:
        int32 [n] ids, OOV_ID where training has not seen the value; and the number of ids.
    """
    levels = np.unique(values[seen])
    ids = index_of(levels, values) + 1
    return np.where(ids > 0, ids, OOV_ID).astype(np.int32), len(levels)


def event_log(
    num_users: int,
    user: np.ndarray,
    time: np.ndarray,
    ids: dict[str, np.ndarray],
    dense: list[np.ndarray],
) -> EventLog:
    """Sort events by user and time; events of the same moment keep their order.

    Args:
        num_users: Users of the data set.
        user: [events] dense index of the user.
        time: [events] Unix seconds.
        ids: By event id feature, [events].
        dense: One [events] array per attribute.
    """
    order = np.lexsort((time, user))
    offsets = np.searchsorted(user[order], np.arange(num_users + 1)).astype(np.int64)
    columns = [column[order].astype(np.float32) for column in dense]
    return EventLog(
        offsets=offsets,
        times=time[order].astype(np.int64),
        ids={name: column[order].astype(np.int32) for name, column in ids.items()},
        dense=np.stack(columns, axis=1) if columns else np.zeros((len(order), 0), np.float32),
    )


def events_before(log: EventLog, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Count, for each (user, time), the user's events strictly before the time.

    Returns:
        int32 [n].
    """
    num_users = len(log.offsets) - 1
    owner = np.repeat(np.arange(num_users, dtype=np.int64), np.diff(log.offsets))
    moments = np.concatenate([log.times, time])
    low, high = (int(moments.min()), int(moments.max())) if len(moments) else (0, 0)
    span = high - low + 1
    position = np.searchsorted(
        owner * span + (log.times - low), user.astype(np.int64) * span + (time - low), side="left"
    )
    return (position - log.offsets[user]).astype(np.int32)
