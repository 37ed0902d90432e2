"""Features and histories that give a label away.

Two kinds of sign: sums over all training examples (values of the two labels that do not overlap,
the outcome of a request before it), and how well one feature alone predicts the label for users
that it was not fitted to, on a sample.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from kunlun_jax.data import counter_random
from kunlun_jax.data.quality.summary import Summary
from kunlun_jax.data.schema import Schema, SchemaError, SparseFeature
from kunlun_jax.data.tables import Examples, Shard

# Examples with a value that each label needs: fewer may be separated by chance.
LEAST_EXAMPLES = 20
# Training examples of a sample. Users are dealt to shards by a hash, so the first shards are one.
SAMPLE_SIZE = 100_000
# A dense feature is cut into so many pieces of equally many examples.
PIECES = 256


@dataclasses.dataclass(frozen=True)
class Leak:
    """A feature that gives a label away.

    Attributes:
        stream: The stream; "" for a column of the examples.
        line: What is wrong.
    """

    stream: str
    line: str


class LeakError(SchemaError):
    """Data that give a label away.

    Attributes:
        leak: The first one found.
    """

    def __init__(self, leak: Leak) -> None:
        super().__init__(leak.line)
        self.leak = leak


class TrainingSample:
    """The training examples of a few shards."""

    def __init__(self) -> None:
        self._parts: list[Examples] = []
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether it needs no more shards."""
        return self._size >= SAMPLE_SIZE

    def add(self, shard: Shard) -> None:
        """Add the examples of a shard, unless there are enough."""
        if not self.is_full:
            train = shard.tables.splits["train"]
            part = dataclasses.replace(train, users=shard.users[train.users])
            part = part.take(np.arange(min(len(part), SAMPLE_SIZE - self._size)))
            self._parts.append(part)
            self._size += len(part)

    def column(self, name: str, key: str = "") -> np.ndarray:
        """Return a column of `Examples`; of a dictionary of columns, that of a key."""
        columns = [getattr(part, name) for part in self._parts]
        return np.concatenate([column[key] for column in columns] if key else columns)


def refuse_leaks(schema: Schema, summary: Summary, sample: TrainingSample) -> None:
    """Refuse a data set whose training examples give their label away.

    Raises:
        LeakError: Names the column or the stream.
    """
    for leak in find_leaks(schema, summary, sample):
        raise LeakError(leak)


def find_leaks(schema: Schema, summary: Summary, sample: TrainingSample) -> Iterator[Leak]:
    """Yield every column and stream that gives a label away.

    Args:
        schema: The schema with its limits.
        summary: Of the whole data set.
        sample: Of its training examples, at least one shard's.
    """
    found = set()
    for task in schema.labels:
        positives = summary.sums[f"positives/train/{task}"]
        if min(positives, summary.sums["rows/train"] - positives) >= LEAST_EXAMPLES:
            # Streams first: counts and ages are columns that a stream's leak shows in, too.
            for stream in schema.streams:
                for line in _echoed(stream.name, task, schema, summary):
                    yield Leak(stream.name, line)
            for feature in schema.dense:
                for line in _separated(feature.name, task, summary):
                    found.add((feature.name, task))
                    yield Leak("", line)
    for name, task, area in single_feature_aucs(schema, sample):
        if area > schema.limits.single_feature_auc and (name, task) not in found:
            yield Leak(
                "",
                f"split 'train': column {name!r}: leak of label {task!r}: expected this column "
                f"alone to reach an AUC of at most {schema.limits.single_feature_auc:g} on users "
                f"that it was not fitted to, got {area:.4f}",
            )


def single_feature_aucs(schema: Schema, sample: TrainingSample) -> Iterator[tuple[str, str, float]]:
    """Yield (feature, label, AUC) of predicting each label by each feature alone.

    The prediction is the mean label of the examples with the same value, of one half of the users;
    the AUC is over the other half. A value that only one user has, such as an id, predicts nothing.
    No value is a value too. Tasks with few examples of a label in either half are left out.
    """
    users, labels = sample.column("users"), sample.column("labels")
    fitted = counter_random.uniform(0, "half of a user", users) < 0.5
    for i, task in enumerate(schema.labels):
        positive = labels[:, i] > 0
        groups = [positive[fitted], positive[~fitted]]
        if min(np.bincount(group, minlength=2).min() for group in groups) < LEAST_EXAMPLES:
            continue
        for j, feature in enumerate(schema.dense):
            codes = _pieces(sample.column("dense")[:, j], fitted)
            yield feature.name, task, _held_out_auc(codes, positive, fitted)
        for feature in schema.sparse:
            codes = _codes(sample, feature)
            yield feature.name, task, _held_out_auc(codes, positive, fitted)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the share of pairs (positive, negative) that scores put in order; ties count half."""
    _, level = np.unique(scores, return_inverse=True)
    up = np.bincount(level, weights=positive)
    down = np.bincount(level, weights=~positive)
    below = np.cumsum(down) - down
    return float((up * (below + 0.5 * down)).sum() / (up.sum() * down.sum()))


def _pieces(values: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Return int64 [n, 1], the piece of every value; pieces are those of the fitted values."""
    known = values[fitted & ~np.isnan(values)]
    shares = np.arange(1, PIECES) / PIECES
    edges = np.unique(np.quantile(known, shares, method="lower")) if len(known) else known
    pieces = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), len(edges) + 1, pieces)[:, None]


def _codes(sample: TrainingSample, feature: SparseFeature) -> np.ndarray:
    """Return int64 [n, max_values]: the ids, -1 behind them; where there is none, -2 first."""
    ids = sample.column("sparse", feature.name).astype(np.int64)
    lengths = sample.column("sparse_lengths", feature.name)
    codes = np.where(np.arange(ids.shape[1]) < lengths[:, None], ids, -1)
    codes[lengths == 0, 0] = -2
    return codes


def _held_out_auc(codes: np.ndarray, positive: np.ndarray, fitted: np.ndarray) -> float:
    """Return the AUC of mean labels by code, averaged over the codes of an example.

    Args:
        codes: int64 [n, values]; -1 is none.
        positive: bool [n].
        fitted: bool [n], the examples that give the means; the AUC is over the others.
    """
    real = codes != -1
    levels, level = np.unique(codes, return_inverse=True)
    level = level.reshape(codes.shape)
    used = real & fitted[:, None]
    counts = np.bincount(level[used], minlength=len(levels))
    labels = np.broadcast_to(positive[:, None], codes.shape)[used]
    prior = positive[fitted].mean()
    means = (np.bincount(level[used], labels, minlength=len(levels)) + prior) / (counts + 1)
    scores = (means[level] * real).sum(axis=1) / real.sum(axis=1)
    return auc(scores[~fitted], positive[~fitted])


def _separated(feature: str, task: str, summary: Summary) -> Iterator[str]:
    sides = [summary.moments[f"dense/{feature}/{task}/{label}"] for label in (0, 1)]
    negative, positive = sides
    subject = f"split 'train': column {feature!r}: leak of label {task!r}"
    for side, other, name in ((*sides, "negative"), (*sides[::-1], "positive")):
        if side.count and not side.missing and not other.count:
            yield f"{subject}: all {name} examples have a value, and no others"
    if min(negative.count, positive.count) >= LEAST_EXAMPLES and (
        negative.high < positive.low or positive.high < negative.low
    ):
        yield (
            f"{subject}: expected overlapping values, got {negative.low:g} .. {negative.high:g} "
            f"with label 0 and {positive.low:g} .. {positive.high:g} with label 1 (after log1p, if "
            "any)"
        )


def _echoed(stream: str, task: str, schema: Schema, summary: Summary) -> Iterator[str]:
    sums, key = summary.sums, f"echo/{stream}/{task}"
    rows = [sums.get(f"{key}/{label}/rows", 0) for label in (0, 1)]
    if min(rows) < LEAST_EXAMPLES:
        return
    negative, positive = (sums[f"{key}/{label}"] / rows[label] for label in (0, 1))
    if positive - negative > schema.limits.echo:
        yield (
            f"stream {stream!r}: leak of label {task!r}: expected the outcome of a request after "
            f"it, got the candidate as the newest event before it in {positive:.0%} of the "
            f"positive and {negative:.0%} of the negative training examples; are the events' "
            "times too early?"
        )
