"""Charts of predictions: is what they promise kept, and what do they look like?"""

import math
from collections.abc import Sequence

import numpy as np

from kunlun_jax.metrics.scores import Scores, probabilities
from kunlun_jax.metrics.user_bootstrap import ComparisonError, UserBootstrap, estimate
from kunlun_jax.report.html import Node
from kunlun_jax.report.svg import Axis, Chart, Series, axis

NUM_BINS = 10
_NUM_COLUMNS = 40
_MARKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_LIMIT = 14.0  # log-odds beyond which the histogram does not go


def reliability_bins(
    scores: Scores, task: int, bootstrap: UserBootstrap | None
) -> list[dict[str, float]]:
    """Return bins of equal weight, by prediction; predictions that are no number are in none.

    Args:
        scores: The predictions.
        task: Column of the logits.
        bootstrap: Of their users, for the intervals; None: without.

    Returns:
        Ascending by prediction: weight, predicted and observed (weighted means), and low and high,
        the interval of observed; NaN where no resample has an example in the bin.
    """
    finite = np.isfinite(scores.logits[:, task])
    predicted = probabilities(np.where(finite, scores.logits[:, task], 0.0))
    labels, weights = scores.labels[:, task].astype(np.float64), scores.weights
    order = np.flatnonzero(finite)
    if not len(order):
        return []
    order = order[np.argsort(predicted[order], kind="stable")]
    below = np.cumsum(weights[order].astype(np.float64))
    number = np.full(len(finite), -1)
    number[order] = np.minimum((below - weights[order] / 2) / below[-1] * NUM_BINS, NUM_BINS - 1)
    found = []
    for one in np.unique(number[order]):
        inside = number == one
        observed = float(np.average(labels[inside], weights=weights[inside]))
        low = high = math.nan
        if bootstrap is not None:
            share = bootstrap.means(inside.astype(np.float64), weights)
            positive = bootstrap.means(inside * labels, weights)
            with np.errstate(invalid="ignore", divide="ignore"):
                rates = positive / share
            try:
                of = estimate(observed, rates)
                low, high = of.low, of.high
            except ComparisonError:  # no resample has one of its users
                pass
        found.append(
            {
                "weight": float(weights[inside].sum(dtype=np.float64)),
                "predicted": float(np.average(predicted[inside], weights=weights[inside])),
                "observed": observed,
                "low": low,
                "high": high,
            }
        )
    return found


def reliability(runs: Sequence[tuple[str, list[dict[str, float]]]], title: str) -> Node | None:
    """Return the reliability diagram of one or more runs; None without any bin.

    Args:
        runs: Name and bins of each.
        title: What it shows.
    """
    if not any(bins for _, bins in runs):
        return None
    every = [v for _, bins in runs for b in bins for v in (b["predicted"], b["low"], b["high"])]
    span = [*every, *(b["observed"] for _, bins in runs for b in bins)]
    x = axis("predicted probability", span, zero=True)
    chart = Chart(x, Axis("share of positives", x.low, x.high, x.ticks), height=300)
    chart.rule((x.low, x.low), (x.high, x.high), "as predicted")
    words = []
    for style, (name, bins) in enumerate(runs):
        if not bins:
            continue
        columns = {key: np.array([b[key] for b in bins]) for key in bins[0]}
        series = Series(name, columns["predicted"], columns["observed"])
        low, high = (
            np.where(np.isfinite(columns[key]), columns[key], columns["observed"])
            for key in ("low", "high")
        )
        chart.dots(series, low, high, style)
        first, last = bins[0], bins[-1]
        words.append(
            f"{name}: of the lowest of {len(bins)} bins {first['predicted']:.3g} predicted and "
            f"{first['observed']:.3g} observed, of the highest {last['predicted']:.3g} and "
            f"{last['observed']:.3g}"
        )
    caption = f"Up to {NUM_BINS} bins of equal weight; bars: 95 % of resamples of the users."
    return chart.figure(title, "; ".join(words), caption)


def score_histogram(scores: Scores, task: int, title: str) -> Node | None:
    """Return how the predictions are spread, of positives and of negatives.

    Args:
        scores: The predictions.
        task: Column of the logits.
        title: What it shows.

    Returns:
        The chart; None if no prediction is finite.
    """
    logits = scores.logits[:, task].astype(np.float64)
    finite = np.isfinite(logits)
    if not finite.any():
        return None
    logits = np.clip(logits[finite], -_LIMIT, _LIMIT)
    labels, weights = scores.labels[finite, task] > 0.5, scores.weights[finite]
    low, high = float(logits.min()) - 0.1, float(logits.max()) + 0.1
    edges = np.linspace(low, high, _NUM_COLUMNS + 1)
    lines, words = [], []
    for name, chosen in (("negatives", ~labels), ("positives", labels)):
        if not chosen.any():
            continue
        counts, _ = np.histogram(logits[chosen], edges, weights=weights[chosen])
        lines.append(Series(name, edges, counts / counts.sum()))
        median = probabilities(np.median(logits[chosen], keepdims=True))[0]
        words.append(f"half of the {name} are below {float(median):.3g}")
    ticks = [(math.log(p / (1 - p)), f"{p:.4g}") for p in _MARKS]
    ticks = [(z, text) for z, text in ticks if low <= z <= high]
    chart = Chart(
        Axis("predicted probability (scale of log-odds)", low, high, tuple(ticks)),
        axis("share of the class", np.concatenate([s.y for s in lines]), zero=True),
    )
    for style, series in enumerate(lines):
        chart.line(series, style, steps=True)
    lost = int((~finite).sum())
    return chart.figure(
        title, "; ".join(words), f"{lost:,} predictions are no number." if lost else ""
    )
