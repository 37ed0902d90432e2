"""The histories of requests, as event logs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
from kunlun_jax.data.tables import EventLog


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
        events: An `Events` (`requests.py`).
        stream: Their stream.
        schema: The schema.
        number: Of the request, for messages.

    Raises:
        RequestError: On what contradicts the schema.
    """
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
