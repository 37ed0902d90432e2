"""What a build learns about a data set shard by shard: sums and moments that merge.

A summary of a whole data set is the merge of its shards' summaries in their order, so that it does
not depend on how many workers there were.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from kunlun_jax.data.label_rates import label_weights
from kunlun_jax.data.quality.mismatches import count_meetings
from kunlun_jax.data.schema import OOV_ID, DenseFeature
from kunlun_jax.data.tables import EventLog, Examples, Shard

# Lengths that a model may cut histories to: round numbers, at most twice as far as need be.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Numbers that are summed up: float64, without those that are missing (NaN).

    Attributes:
        count: Numbers.
        missing: NaN.
        mean: Their mean; 0 without any.
        squares: Sum of the squared differences from the mean.
        low: The smallest; +inf without any.
        high: The largest; -inf without any.
    """

    count: int = 0
    missing: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Sum up an array."""
        known = values[~np.isnan(values)].astype(np.float64)
        missing = len(values) - len(known)
        if not len(known):
            return cls(missing=missing)
        mean = float(known.mean())
        squares = float(np.square(known - mean).sum())
        return cls(len(known), missing, mean, squares, float(known.min()), float(known.max()))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both together (Chan's formula)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / max(count, 1)
        return Moments(
            count,
            self.missing + other.missing,
            self.mean + delta * share,
            self.squares + other.squares + delta * delta * self.count * share,
            min(self.low, other.low),
            max(self.high, other.high),
        )

    @property
    def std(self) -> float:
        """Standard deviation; 0 without any number."""
        return math.sqrt(self.squares / max(self.count, 1))


@dataclasses.dataclass(frozen=True)
class Summary:
    """Sums and moments by key.

    Attributes:
        sums: By "users"; "events/<stream>"; "rows/<split>"; "positives/<split>/<task>";
            "within/<stream>/<n>", the training examples whose history has at most n events, by
            LENGTHS; "values/<split>/<feature>" and "oov/<split>/<feature>", the ids of a sparse
            feature and those of them that are out of vocabulary;
            "echo/<stream>/<task>/<label>/rows" and "echo/<stream>/<task>/<label>", the training
            examples of that label that have events, and those whose newest event is of the
            candidate itself.
        moments: By "dense/<feature>/<task>/<label>" over the training examples of that label, and
            "event/<stream>/<attribute>" over the events that some training example can see; of
            transformed (log1p), not standardised values.
        meetings: As `mismatches.count_meetings`.
        weights: By "all/<split>" and "positives/<split>/<task>", the weight of the split's examples
            and of its positives, in float64.
    """

    sums: dict[str, int]
    moments: dict[str, Moments]
    meetings: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)

    def merge(self, other: "Summary") -> "Summary":
        """Return the summary of both parts of a data set together."""
        sums = {key: value + other.sums[key] for key, value in self.sums.items()}
        moments = {key: value.merge(other.moments[key]) for key, value in self.moments.items()}
        meetings = {
            key: tuple(np.add(value, other.meetings[key]).tolist())
            for key, value in self.meetings.items()
        }
        weights = {key: value + other.weights[key] for key, value in self.weights.items()}
        return Summary(sums, moments, meetings=meetings, weights=weights)

    def label_rate(self, split: str, task: str) -> float | None:
        """Return the weighted mean label (`label_rates.py`); None without any weight."""
        weight = self.weights[f"all/{split}"]
        return self.weights[f"positives/{split}/{task}"] / weight if weight > 0.0 else None

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable dictionaries; floats survive exactly."""
        return {
            "sums": self.sums,
            "moments": {key: dataclasses.astuple(value) for key, value in self.moments.items()},
            "meetings": self.meetings,
            "weights": self.weights,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Summary":
        """Rebuild what `to_json` returned."""
        moments = {key: Moments(*fields) for key, fields in value["moments"].items()}
        meetings = {key: tuple(counts) for key, counts in value["meetings"].items()}
        return cls(value["sums"], moments, meetings=meetings, weights=value["weights"])


def merge_all(summaries: Iterable[Summary]) -> Summary:
    """Merge summaries, at least one, from left to right."""
    return functools.reduce(Summary.merge, summaries)


def transform(values: np.ndarray, feature: DenseFeature) -> np.ndarray:
    """Apply the feature's log1p, if it has one, in float64."""
    values = values.astype(np.float64)
    return signed_log1p(values) if feature.log1p else values


def signed_log1p(values: np.ndarray) -> np.ndarray:
    """Return sign(x) * log1p(|x|)."""
    return np.sign(values) * np.log1p(np.abs(values))


def summarize(shard: Shard) -> Summary:
    """Sum up a shard."""
    tables = shard.tables
    schema, train = tables.schema, tables.splits["train"]
    sums = {"users": len(shard.users)}
    moments, weights = {}, {}
    for name, examples in tables.splits.items():
        sums[f"rows/{name}"] = len(examples)
        weights[f"all/{name}"], positive = label_weights(examples)
        for i, task in enumerate(schema.labels):
            weights[f"positives/{name}/{task}"] = float(positive[i])
            sums[f"positives/{name}/{task}"] = int(examples.labels[:, i].sum(dtype=np.float64))
        for feature in schema.sparse:
            lengths = examples.sparse_lengths[feature.name]
            real = np.arange(feature.max_values) < lengths[:, None]
            unknown = real & (examples.sparse[feature.name] == OOV_ID)
            sums[f"values/{name}/{feature.name}"] = int(real.sum())
            sums[f"oov/{name}/{feature.name}"] = int(unknown.sum())
    for i, task in enumerate(schema.labels):
        for label in (0, 1):
            chosen = train.labels[:, i] == label
            for j, feature in enumerate(schema.dense):
                values = transform(train.dense[chosen, j], feature)
                moments[f"dense/{feature.name}/{task}/{label}"] = Moments.of(values)
    for stream in schema.streams:
        log = tables.logs[stream.name]
        sums[f"events/{stream.name}"] = len(log.times)
        for length in LENGTHS:
            within = train.ends[stream.name] <= length
            sums[f"within/{stream.name}/{length}"] = int(within.sum())
        seen = seen_in_training(log, train, train.ends[stream.name])
        for i, feature in enumerate(stream.dense):
            values = transform(log.dense[seen, i], feature)
            moments[f"event/{stream.name}/{feature.name}"] = Moments.of(values)
        shared = [f.name for f in stream.ids if f.name in schema.candidate]
        if shared:
            sums |= _echo(stream.name, schema.labels, log, train, shared[0])
    meetings = count_meetings(shard, schema)
    return Summary(sums, moments, meetings=meetings, weights=weights)


def seen_in_training(log: EventLog, train: Examples, ends: np.ndarray) -> np.ndarray:
    """Mark the events, bool [events], that are in some training example's past."""
    last = np.zeros(len(log.offsets) - 1, dtype=np.int64)
    np.maximum.at(last, train.users, ends)
    sizes = np.diff(log.offsets)
    return np.arange(len(log.times)) < np.repeat(log.offsets[:-1] + last, sizes)


def _echo(
    stream: str, tasks: tuple[str, ...], log: EventLog, train: Examples, feature: str
) -> dict[str, int]:
    """Count the examples whose newest event is of the candidate itself, by label."""
    ends = train.ends[stream]
    rows = np.flatnonzero(ends)
    newest = log.offsets[train.users[rows]] + ends[rows] - 1
    candidate = train.sparse[feature][rows, 0]
    same = (log.ids[feature][newest] == candidate) & (candidate != OOV_ID)
    sums = {}
    for i, task in enumerate(tasks):
        for label in (0, 1):
            chosen = train.labels[rows, i] == label
            sums[f"echo/{stream}/{task}/{label}"] = int((same & chosen).sum())
            sums[f"echo/{stream}/{task}/{label}/rows"] = int(chosen.sum())
    return sums
