"""The histories of requests, as event logs, with what is made of them once."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kunlun_jax.data.counting import CountIndex
from kunlun_jax.data.cross import Cross
from kunlun_jax.data.hashing import id_dtype
from kunlun_jax.data.reading.gather import padded_log
from kunlun_jax.data.reading.request_values import (
    RequestError,
    integers,
    known_ids,
    numbers,
    require_known,
    require_seconds,
    shape_of,
)
from kunlun_jax.data.schema import OOV_ID, EventStream, Schema
from kunlun_jax.data.tables import EventLog, Examples


@dataclasses.dataclass(frozen=True)
class Histories:
    """Events of users, and what is the same whatever is asked about them.

    Attributes:
        logs: By stream, the events of all users; those that a model takes or that are counted.
        padded: By stream that a model takes, the same as `padded_log` returns it.
    """

    logs: dict[str, EventLog]
    padded: dict[str, EventLog]
    _indexes: dict[Cross, CountIndex] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def read(
        cls,
        events: Sequence[Any],
        schema: Schema,
        max_lens: dict[str, int],
        number: Callable[[int], int] = int,
    ) -> "Histories":
        """Read the events of users.

        Args:
            events: For every user `Events` (`requests.py`) by stream.
            schema: The schema.
            max_lens: By stream that a model takes, the most events that it takes.
            number: Returns the request that a user's messages are about.

        Raises:
            RequestError: On what contradicts the schema.
        """
        counted = {one.stream for one in (*schema.cross, *schema.popularity)}
        logs = {
            stream.name: joined(
                [
                    encoded_history(given.get(stream.name), stream, schema, number(user))
                    for user, given in enumerate(events)
                ],
                stream,
            )
            for stream in schema.streams
            if stream.name in max_lens or stream.name in counted
        }
        padded = {
            name: padded_log(log, schema.stream_by_name[name], max_lens[name])
            for name, log in logs.items()
            if name in max_lens
        }
        return cls(logs, padded)

    def counts(self, cross: Cross, examples: Examples) -> np.ndarray:
        """Return the columns of a declaration, as `count_columns`.

        Args:
            cross: The declaration.
            examples: Users, times and candidates.
        """
        if cross not in self._indexes:  # the same, should two threads make it
            self._indexes[cross] = CountIndex(cross, self.logs[cross.stream])
        return self._indexes[cross].columns(examples)

    def ends(self, stream: str, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return int32 [n], how many of a user's events lie before a time.

        Args:
            stream: The stream.
            users: int [n].
            times: int64 [n], Unix seconds.
        """
        log = self.logs[stream]
        if len(log.offsets) == 2:  # candidates of one user
            return np.searchsorted(log.times, times).astype(np.int32)
        found = np.zeros(len(users), np.int32)
        counts = np.bincount(users, minlength=len(log.offsets) - 1)
        rows_by_user = np.split(np.argsort(users, kind="stable"), np.cumsum(counts)[:-1])
        for user, rows in enumerate(rows_by_user):
            mine = log.times[log.offsets[user] : log.offsets[user + 1]]
            found[rows] = np.searchsorted(mine, times[rows])
        return found


def joined(parts: Sequence[EventLog], stream: EventStream) -> EventLog:
    """Return the logs of single users as one.

    Args:
        parts: The logs, at least one.
        stream: Their stream.
    """
    sizes = [len(part.times) for part in parts]
    return EventLog(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        times=np.concatenate([part.times for part in parts]),
        ids={f.name: np.concatenate([part.ids[f.name] for part in parts]) for f in stream.ids},
        dense=np.concatenate([part.dense for part in parts]),
    )


def encoded_history(events: Any, stream: EventStream, schema: Schema, number: int) -> EventLog:
    """Return the events of one request, encoded and in order.

    Args:
        events: An `Events` (`requests.py`); None: there are none.
        stream: Their stream.
        schema: The schema.
        number: Of the request, for messages.

    Raises:
        RequestError: On what contradicts the schema.
    """
    if events is None:
        vocabularies = schema.vocabulary_by_name
        return EventLog(
            offsets=np.zeros(2, np.int64),
            times=np.zeros(0, np.int64),
            ids={f.name: np.zeros(0, id_dtype(vocabularies[f.vocabulary])) for f in stream.ids},
            dense=np.zeros((0, len(stream.dense)), np.float32),
        )
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
