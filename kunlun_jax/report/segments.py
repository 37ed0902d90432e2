"""The test examples in parts: by what came before a request, and how often training met its item.

A segmentation puts every example of a weight above 0 into one part, in the order of the split: that
of the predictions.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from kunlun_jax.data import Dataset
from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.metrics.comparison import METRICS, Measurement, difference, measure
from kunlun_jax.metrics.scores import Scores, probabilities
from kunlun_jax.metrics.user_bootstrap import ComparisonError, UserBootstrap, estimate

COUNTED_EXAMPLES = 2**22  # of training, at most, to see how often it met an item or a user
_LENGTHS = (0, 1, 4, 16, 64, 256, 1024)
_TIMES = (0, 1, 10, 100, 1000)
_UNKNOWN = "out of vocabulary"


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Test examples, put into parts.

    Attributes:
        title: By what.
        names: Of the parts that are not empty.
        part: int [n], the part of every example.
    """

    title: str
    names: tuple[str, ...]
    part: np.ndarray


def segmentations(dataset: Dataset, streams: list[str], split: str) -> list[Segmentation]:
    """Return the segmentations of a split that have more than one part.

    None of a data set in several parts: who has the predictions does not have the examples of all.

    Args:
        dataset: The data set.
        streams: Names of the streams that the model reads.
        split: Which split.
    """
    if dataset.num_parts > 1:
        return []
    columns, schema = dataset.columns, dataset.schema
    examples = columns.splits[split]
    rows = columns.places[split]
    rows = rows[examples.weights[rows] > 0]
    train = columns.splits["train"]
    counted = min(len(train), COUNTED_EXAMPLES)
    found = [
        _by_number(f"stream {name}: events before the request", _LENGTHS, examples.ends[name][rows])
        for name in streams
    ]
    sizes = {
        f.name: schema.vocabulary_by_name[f.vocabulary].num_ids
        for f in schema.sparse
        if f.name in schema.candidate and f.max_values == 1
    }
    times = f"times in the {counted:,} training examples" + (
        f" that are stored first, of {len(train):,}" if counted < len(train) else ""
    )
    if sizes:
        item = max(sizes, key=lambda name: sizes[name])
        ids = examples.sparse[item][rows, 0]
        known = _counts(ids, train.sparse[item][:counted, 0])
        known = np.where(ids == OOV_ID, -1, known)
        found.append(_by_number(f"candidate's {item}: {times}", _TIMES, known))
    users = _counts(examples.users[rows], train.users[:counted])
    found.append(_by_number(f"user: {times}", _TIMES, users))
    return [segmentation for segmentation in found if len(segmentation.names) > 1]


def _counts(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return how often each value is among others."""
    known, times = np.unique(among, return_counts=True)
    if not len(known):
        return np.zeros(len(values), np.int64)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, times[at], 0)


def _by_number(title: str, edges: tuple[int, ...], numbers: np.ndarray) -> Segmentation:
    """Put numbers into parts that begin at the edges; -1 is what has none."""
    ends = [*(edge - 1 for edge in edges[1:]), None]
    names = [_UNKNOWN]
    for first, last in zip(edges, ends, strict=True):
        names.append(
            f"{first:,} or more" if last is None
            else f"{first:,}" if first == last
            else f"{first:,} to {last:,}"
        )  # fmt: skip
    part = np.searchsorted(edges, numbers, side="right")
    there, part = np.unique(part, return_inverse=True)
    return Segmentation(title, tuple(names[i] for i in there), part)


def segment_rows(
    segmentation: Segmentation, scores: Scores, task: int, *, num_resamples: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the metrics of every part.

    NE is relative to the part's own label rate: 1 is what this rate reaches for all.

    Args:
        segmentation: The parts.
        scores: Predictions of all of them.
        task: Column of the labels.
        num_resamples: Resamples of the users, for the intervals.
        seed: Of the resamples.

    Returns:
        For every part: name, examples, users, label_rate, prediction (the mean), and, by metric,
        an estimate as a dictionary, or None where the part does not define it.
    """
    return [
        row
        | _estimates(
            lambda bootstrap, one=one, rate=row["label_rate"]: {
                metric: estimate(getattr(found, metric), found.resampled[metric])
                for found in [_measure(one, bootstrap, rate, task)]
                for metric in METRICS
            },
            one,
            num_resamples,
            seed,
        )
        for row, one in _parts(segmentation, scores, task)
    ]


def paired_rows(
    segmentation: Segmentation,
    a: Scores,
    b: Scores,
    task: int,
    *,
    num_resamples: int,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return b - a of every part; arguments and result otherwise as of `segment_rows`.

    Args:
        segmentation: The parts.
        a: Predictions of one run.
        b: Of another, for the same examples.
        task: Column of the labels.
        num_resamples: Resamples of the users, the same for both.
        seed: Of the resamples.
    """
    rows = []
    both = zip(_parts(segmentation, a, task), _parts(segmentation, b, task), strict=True)
    for (row, first), (_, second) in both:

        def of_both(bootstrap: UserBootstrap, row=row, pair=(first, second)) -> Any:
            rate = row["label_rate"]
            return difference(*(_measure(one, bootstrap, rate, task) for one in pair))

        rows.append(row | _estimates(of_both, first, num_resamples, seed))
    return rows


def _parts(
    segmentation: Segmentation, scores: Scores, task: int
) -> list[tuple[dict[str, Any], Scores]]:
    if len(segmentation.part) != len(scores):
        raise ValueError(
            f"{segmentation.title}: expected {len(segmentation.part)} predictions, got "
            f"{len(scores)}"
        )
    found = []
    for part, name in enumerate(segmentation.names):
        inside = segmentation.part == part
        one = Scores(
            scores.user_ids[inside],
            scores.logits[inside],
            scores.labels[inside],
            scores.weights[inside],
        )
        logits, weights = one.logits[:, task], one.weights
        known = np.isfinite(logits).all()
        row = {
            "name": name,
            "examples": len(one),
            "users": len(np.unique(one.user_ids)),
            "label_rate": float(np.average(one.labels[:, task], weights=weights)),
            "prediction": (
                float(np.average(probabilities(logits), weights=weights)) if known else math.nan
            ),
        }
        found.append((row, one))
    return found


def _measure(scores: Scores, bootstrap: UserBootstrap, rate: float, task: int) -> Measurement:
    if not 0.0 < rate < 1.0:
        raise ComparisonError("expected labels of both classes")
    return measure(scores, bootstrap, label_rate=rate, task=task)


def _estimates(of: Any, scores: Scores, num_resamples: int, seed: int) -> dict[str, Any]:
    try:
        found = of(UserBootstrap(scores.user_ids, num_resamples=num_resamples, seed=seed))
        return {metric: dataclasses.asdict(value) for metric, value in found.items()}
    except ComparisonError:  # one user, or one class: the page says so
        return dict.fromkeys(METRICS)
