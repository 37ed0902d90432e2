"""From columns to batches: the one place that cuts histories, orders them and pads.

Training reads its columns from a data set and serving makes them from requests (`requests.py`);
both come through here, so that an input means the same to both.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from kunlun_jax.data.batch import Batch, EventBatch, SparseBatch
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.hashing import separate
from kunlun_jax.data.schema import OOV_ID, EventStream, Schema, Vocabulary
from kunlun_jax.data.tables import EventLog, Examples


@dataclasses.dataclass(frozen=True)
class Columns:
    """Examples and the event logs they point into, ready to be gathered.

    Attributes:
        schema: The schema.
        examples: Examples; their dense features are standardised.
        users: int32 [users], the numbers that a batch gives their users.
        logs: Event logs by stream, as `padded_log` returns them.
    """

    schema: Schema
    examples: Examples
    users: np.ndarray
    logs: dict[str, EventLog]

    def batch(self, rows: np.ndarray, real: np.ndarray, max_lens: dict[str, int]) -> Batch:
        """Gather examples.

        Args:
            rows: int [B], which examples.
            real: bool [B], which of them count; the others get weight 0.
            max_lens: By stream, the most recent events that an example gets.

        Returns:
            NumPy arrays.
        """
        examples, vocabularies = self.examples, self.schema.vocabulary_by_name
        users, times = examples.users[rows], examples.request_times[rows]
        sparse = {}
        for feature in self.schema.sparse:
            ids = separate(examples.sparse[feature.name][rows], vocabularies[feature.vocabulary])
            lengths = examples.sparse_lengths[feature.name][rows]
            sparse[feature.name] = SparseBatch(ids=_leaf(ids), lengths=_leaf(lengths))
        streams = {}
        for name, max_len in max_lens.items():
            of = {f.name: vocabularies[f.vocabulary] for f in self.schema.stream_by_name[name].ids}
            ends = examples.ends[name][rows]
            candidate = {shared: sparse[shared].ids for shared in self.schema.shared_ids[name]}
            streams[name] = _events(self.logs[name], max_len, users, times, ends, of, candidate)
        return Batch(
            dense=_leaf(examples.dense[rows]),
            sparse=sparse,
            streams=streams,
            labels=_leaf(examples.labels[rows]),
            weights=_leaf(examples.weights[rows] * real),
            user_ids=_leaf(self.users[users]),
        )


def matching(events: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Tell which events have an id of the candidate; what is out of vocabulary equals nothing.

    Args:
        events: int32 [B, T], ids of the events; under double hashing pairs, [B, T, 2]. Of one
            history that all candidates are compared with, [1, T] or [1, T, 2].
        candidate: int32 [B, V], likewise [B, V, 2], with zeros behind the true length.

    Returns:
        bool [B, T]; False at padding.
    """
    known = np.where(candidate == OOV_ID, -1, candidate)  # no event has -1
    # Mostly there is one value: an array of [B, T, V] would be slower.
    each = (events == value[:, None] for value in known.swapaxes(0, 1))
    return functools.reduce(
        np.logical_or, (same.all(axis=-1) if events.ndim > 2 else same for same in each)
    )


def padded_log(log: EventLog, stream: EventStream, max_len: int) -> EventLog:
    """Return a raw log as it is gathered from.

    Attributes standardised, and events of zeros appended, so that a window fits behind every event.

    Args:
        log: Raw events.
        stream: The stream as the schema describes it, with the mean and std of its attributes.
        max_len: The most events that an example will get.
    """

    def padded(column: np.ndarray) -> np.ndarray:
        return np.concatenate([column, np.zeros((max_len, *column.shape[1:]), column.dtype)])

    return EventLog(
        offsets=log.offsets,
        times=padded(log.times),
        ids={name: padded(ids) for name, ids in log.ids.items()},
        dense=padded(standardize(log.dense, stream.dense)),
    )


def _events(
    log: EventLog,
    max_len: int,
    users: np.ndarray,
    times: np.ndarray,
    ends: np.ndarray,
    vocabularies: dict[str, Vocabulary],
    candidate: dict[str, np.ndarray],
) -> EventBatch:
    lengths = np.minimum(ends, max_len).astype(np.int32)
    start = log.offsets[users] + ends - lengths
    # All bits of what is real, none of what stands behind it.
    mask = -(np.arange(max_len, dtype=np.int32) < lengths[:, None]).astype(np.int32)
    ages = _windows(log.times, start, max_len)
    np.subtract(times[:, None], ages, out=ages)
    ages = np.minimum(ages, np.iinfo(np.int32).max, out=ages).astype(np.int32)
    ages &= mask
    ids = {}
    for feature, column in log.ids.items():
        window = _windows(column, start, max_len)
        window &= mask
        ids[feature] = separate(window, vocabularies[feature])
    matches = {name: _leaf(matching(ids[name], known)) for name, known in candidate.items()}
    dense = _windows(log.dense, start, max_len)
    dense.view(np.int32)[...] &= mask[:, :, None]
    return EventBatch(
        ids={feature: _leaf(found) for feature, found in ids.items()},
        dense=_leaf(dense),
        ages=_leaf(ages),
        lengths=_leaf(lengths),
        matches=matches,
    )


def _windows(column: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """Return column[s : s + length] for every s of `start`, as [starts, length, ...].

    The rows of a view of overlapping windows are copied whole: an index for every event would take
    five times as long.
    """
    width, size = math.prod(column.shape[1:]), column.itemsize
    shape = (len(column) - length + 1, length * width)
    view = np.ndarray(shape, column.dtype, column, strides=(width * size, size))
    return view[start].reshape(len(start), length, *column.shape[1:])


def _leaf(array: np.ndarray) -> Any:
    """Pass NumPy off as a JAX array: the leaves become one when a step takes the batch."""
    return array
