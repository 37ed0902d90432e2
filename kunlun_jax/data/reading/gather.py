"""From columns to batches: the one place that cuts histories, orders them and pads.

Training reads its columns from a data set and serving makes them from requests (`requests.py`);
both come through here, so that an input means the same to both.
"""

import dataclasses
from typing import Any

import numpy as np

from kunlun_jax.data.batch import Batch, EventBatch, SparseBatch
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.hashing import separate
from kunlun_jax.data.schema import EventStream, Schema, Vocabulary
from kunlun_jax.data.tables import EventLog, Examples


@dataclasses.dataclass(frozen=True)
class Columns:
    """Examples and the event logs they point into, ready to be gathered.

    Attributes:
        schema: The schema.
        examples: Examples; their dense features are raw.
        dense: float32 [n, features], the same dense features, standardised.
        logs: Event logs by stream, as `padded_log` returns them.
    """

    schema: Schema
    examples: Examples
    dense: np.ndarray
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
            ids = examples.sparse[feature.name].take(rows, axis=0)
            ids = separate(ids, vocabularies[feature.vocabulary])
            lengths = examples.sparse_lengths[feature.name].take(rows)
            sparse[feature.name] = SparseBatch(ids=_leaf(ids), lengths=_leaf(lengths))
        streams = {}
        for name, max_len in max_lens.items():
            of = {f.name: vocabularies[f.vocabulary] for f in self.schema.stream_by_name[name].ids}
            ends = examples.ends[name][rows]
            streams[name] = _events(self.logs[name], max_len, users, times, ends, of)
        return Batch(
            dense=_leaf(self.dense[rows]),
            sparse=sparse,
            streams=streams,
            labels=_leaf(examples.labels[rows]),
            weights=_leaf(examples.weights[rows] * real),
            user_ids=_leaf(users),
        )


def padded_log(log: EventLog, stream: EventStream) -> EventLog:
    """Return a raw log as it is gathered from.

    Attributes standardised, and one event of zeros appended, to which all padding points.

    Args:
        log: Raw events.
        stream: The stream as the schema describes it, with the mean and std of its attributes.
    """
    dense = standardize(log.dense, stream.dense)
    return EventLog(
        offsets=log.offsets,
        times=np.append(log.times, 0),
        ids={name: np.append(ids, np.int32(0)) for name, ids in log.ids.items()},
        dense=np.concatenate([dense, np.zeros((1, dense.shape[1]), np.float32)]),
    )


def _events(
    log: EventLog,
    max_len: int,
    users: np.ndarray,
    times: np.ndarray,
    ends: np.ndarray,
    vocabularies: dict[str, Vocabulary],
) -> EventBatch:
    lengths = np.minimum(ends, max_len)
    start = log.offsets[users] + ends - lengths
    column = np.arange(max_len)
    # Everything behind the true length points at the appended event of zeros.
    padding = len(log.times) - 1
    index = np.where(column < lengths[:, None], start[:, None] + column, padding)
    ages = np.where(index != padding, times[:, None] - log.times.take(index), 0)
    return EventBatch(
        ids={
            feature: _leaf(separate(ids.take(index), vocabularies[feature]))
            for feature, ids in log.ids.items()
        },
        dense=_leaf(log.dense.take(index, axis=0)),
        ages=_leaf(np.minimum(ages, np.iinfo(np.int32).max).astype(np.int32)),
        lengths=_leaf(lengths.astype(np.int32)),
    )


def _leaf(array: np.ndarray) -> Any:
    """Pass NumPy off as a JAX array: the leaves become one when a step takes the batch."""
    return array
