"""The shape of a data set: histograms and ranges of its shards, which merge."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from kunlun_jax.data import counter_random
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import Examples, Shard

# Bins of a standardised feature: below -5, 40 of width 0.25, 5 and above, missing.
EDGES = np.linspace(-5.0, 5.0, 41)
# Ids fall into these by a hash; the last counts examples without a value.
ID_BUCKETS = 64


@dataclasses.dataclass(frozen=True)
class Profile:
    """Histograms and ranges.

    Attributes:
        counts: int64 arrays, by "dense/<split>/<feature>" [42 + 1], "sparse/<split>/<feature>"
            [64 + 1], "length/<split>/<stream>" [max_len + 1] (events that an example is offered),
            "duplicates/<split>" [1] (examples that repeat an earlier one exactly).
        ranges: Least and largest, by "time/<split>" and "time/<stream>" (Unix seconds) and
            "dense/<split>/<feature>" (standardised). Without any value (inf, -inf).
    """

    counts: dict[str, np.ndarray]
    ranges: dict[str, tuple[float, float]]

    def merge(self, other: "Profile") -> "Profile":
        """Return the profile of both parts of a data set together."""
        counts = {key: value + other.counts[key] for key, value in self.counts.items()}
        ranges = {
            key: (min(low, other.ranges[key][0]), max(high, other.ranges[key][1]))
            for key, (low, high) in self.ranges.items()
        }
        return Profile(counts, ranges)


def profile(shard: Shard, schema: Schema) -> Profile:
    """Count what a shard holds.

    Args:
        shard: The shard.
        schema: The schema with the mean and std of dense features.
    """
    counts, ranges = {}, {}
    for stream in schema.streams:
        ranges[f"time/{stream.name}"] = _range(shard.tables.logs[stream.name].times)
    for split, examples in shard.tables.splits.items():
        ranges[f"time/{split}"] = _range(examples.request_times)
        counts[f"duplicates/{split}"] = np.array([_duplicates(examples)])
        values = standardize(examples.dense, schema.dense)
        for i, feature in enumerate(schema.dense):
            known = values[~np.isnan(examples.dense[:, i]), i]
            histogram = np.bincount(
                np.searchsorted(EDGES, known, side="right"), minlength=len(EDGES) + 1
            )
            counts[f"dense/{split}/{feature.name}"] = np.append(
                histogram, len(examples) - len(known)
            )
            ranges[f"dense/{split}/{feature.name}"] = _range(known)
        for feature in schema.sparse:
            lengths = examples.sparse_lengths[feature.name]
            real = np.arange(feature.max_values) < lengths[:, None]
            ids = examples.sparse[feature.name][real].astype(np.uint64)
            bucket = (counter_random.mix(ids) % np.uint64(ID_BUCKETS)).astype(np.int64)
            counts[f"sparse/{split}/{feature.name}"] = np.append(
                np.bincount(bucket, minlength=ID_BUCKETS), (lengths == 0).sum()
            )
        for stream in schema.streams:
            lengths = np.minimum(examples.ends[stream.name], stream.max_len)
            counts[f"length/{split}/{stream.name}"] = np.bincount(
                lengths, minlength=stream.max_len + 1
            )
    return Profile(counts, ranges)


def quantile(histogram: np.ndarray, share: float) -> int:
    """Return the least value up to which lie at least this share of the counts; 0 without any."""
    return int(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))


def stability_index(left: np.ndarray, right: np.ndarray) -> float:
    """Return how far two histograms are apart: the population stability index.

        sum_b (p_b - q_b) log(p_b / q_b) - (bins - 1) (1/n + 1/m)

    The second term is what samples of n and m from one distribution give on average, so that few
    examples alone are no drift. Never below 0; 0 without examples.
    """
    used = (left + right) > 0
    n, m, bins = left.sum(), right.sum(), int(used.sum())
    if not n or not m:
        return 0.0
    p = (left[used] + 0.5) / (n + 0.5 * bins)
    q = (right[used] + 0.5) / (m + 0.5 * bins)
    noise = (bins - 1) * (1.0 / n + 1.0 / m)
    return max(0.0, float(((p - q) * np.log(p / q)).sum()) - noise)


def _duplicates(examples: Examples) -> int:
    """Count the examples that repeat an earlier one, by a hash of 64 bits of all their columns."""
    columns: Iterable[np.ndarray] = (
        examples.users,
        examples.request_times,
        *examples.labels.T,
        *examples.dense.T,
        *(column for ids in examples.sparse.values() for column in ids.T),
    )
    state = np.zeros(len(examples), np.uint64)
    for column in columns:
        if column.dtype == np.float32:
            column = np.ascontiguousarray(column).view(np.uint32)
        state = counter_random.mix(state ^ column.astype(np.uint64))
    return len(state) - len(np.unique(state))


def _range(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (np.inf, -np.inf)
