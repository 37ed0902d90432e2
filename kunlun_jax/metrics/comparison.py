"""Two models on the same examples: the differences of NE and AUC, and how certain they are."""

import dataclasses

import numpy as np

from kunlun_jax.metrics.binary_metrics import binary_entropy
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import (
    ComparisonError,
    Estimate,
    UserBootstrap,
    auc_roc,
    estimate,
)

METRICS = ("normalized_entropy", "auc_roc")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """NE and AUC of one task, of the examples and of every resample of their users.

    Attributes:
        normalized_entropy: Log loss / entropy of the weighted training label rate.
        auc_roc: Exact.
        resampled: [draws] by metric.
    """

    normalized_entropy: float
    auc_roc: float
    resampled: dict[str, np.ndarray]


def measure(
    scores: Scores, bootstrap: UserBootstrap, *, label_rate: float, task: int = 0
) -> Measurement:
    """Measure predictions.

    Args:
        scores: The predictions.
        bootstrap: Resamples of their users.
        label_rate: Weighted mean training label of the task (`data/label_rates.py`).
        task: Column of the logits and labels.

    Raises:
        ComparisonError: If there is no example, a prediction is NaN or infinite, or all labels are
            the same.
    """
    if not len(scores):
        raise ComparisonError("expected examples with a weight above 0, got none")
    logits, labels, weights = scores.logits[:, task], scores.labels[:, task], scores.weights
    broken = int(np.sum(~np.isfinite(logits)))
    if broken:
        raise ComparisonError(f"expected finite logits, got {broken} of {len(logits)} that are not")
    losses, entropy = scores.log_losses(task), binary_entropy(label_rate)
    auc = auc_roc(logits, labels, weights)
    if np.isnan(auc):
        raise ComparisonError(f"expected labels of both classes, got {len(labels)} of one")
    return Measurement(
        normalized_entropy=float(np.average(losses, weights=weights)) / entropy,
        auc_roc=auc,
        resampled={
            "normalized_entropy": bootstrap.means(losses, weights) / entropy,
            "auc_roc": bootstrap.aucs(logits, labels, weights),
        },
    )


def difference(a: Measurement, b: Measurement) -> dict[str, Estimate]:
    """Return b - a by metric; both measured with the same resamples of the same examples."""
    return {
        metric: estimate(
            getattr(b, metric) - getattr(a, metric), b.resampled[metric] - a.resampled[metric]
        )
        for metric in METRICS
    }


def task_column(labels: tuple[str, ...], task: str | None) -> int:
    """Return the column of a task, by default of the first one.

    Args:
        labels: Names of the data set's tasks.
        task: Name, or None.

    Raises:
        ComparisonError: If there is no such task.
    """
    if task is not None and task not in labels:
        raise ComparisonError(f"task: expected one of {list(labels)}, got {task!r}")
    return 0 if task is None else labels.index(task)
