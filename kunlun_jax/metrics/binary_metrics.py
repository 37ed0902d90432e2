"""Metrics of binary predictions: accumulated on device, merged by a sum, computed on host.

Every sum is a `TwoFloatSum` of about 48 bits: merging the states of parts gives the metrics of
the whole, and the batch size does not matter. An exact AUC, of all examples or by user, is no sum:
it is made from every example's score (`grouped_auc.py`), which an evaluation has and the training
metrics have not.
"""

import math
from collections.abc import Sequence
from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.metrics import two_float
from kunlun_jax.metrics.tasks import mean_over_tasks
from kunlun_jax.metrics.two_float import TwoFloatSum
from kunlun_jax.shapes import Array, Bool, Float, Int

NUM_AUC_BINS = 16384
NUM_CALIBRATION_BINS = 15
# AUC bins are equally wide in z / (1 + |z| / 8): finest (0.001) around z = 0, 0.004 at |z| = 8,
# and no logit falls off the end.
_LOGIT_SCALE = 8.0


# A pytree holds anything while jax maps over it (shapes, shardings), so it is not checked.
@no_type_check
@flax.struct.dataclass
class MetricState:
    """Sums over the examples seen so far. One entry of the leading axis L is one task.

    Attributes:
        loss: [L], weighted binary cross entropy.
        count: [L], examples with a positive weight and a finite logit.
        nonfinite: [L], examples with a positive weight whose logit is NaN or infinite; they
            are in no other sum.
        scores: [L, 2, auc bins], weight of the negatives (0) and positives (1) by logit.
        calibration: [L, 3, calibration bins], weight, weighted probability and weighted label
            by predicted probability.
    """

    loss: TwoFloatSum
    count: TwoFloatSum
    nonfinite: TwoFloatSum
    scores: TwoFloatSum
    calibration: TwoFloatSum


def init(
    num_tasks: int = 1,
    *,
    num_auc_bins: int = NUM_AUC_BINS,
    num_calibration_bins: int = NUM_CALIBRATION_BINS,
) -> MetricState:
    """Return the state in which nothing was seen yet.

    Args:
        num_tasks: L, columns of the logits and labels.
        num_auc_bins: Bins of the logit histogram behind `auc_roc`.
        num_calibration_bins: Equally wide bins of the probability behind `ece`.

    Returns:
        A state of zeros; `update` takes the bins from its shapes.
    """
    return MetricState(
        loss=two_float.zeros(num_tasks),
        count=two_float.zeros(num_tasks),
        nonfinite=two_float.zeros(num_tasks),
        scores=two_float.zeros(num_tasks, 2, num_auc_bins),
        calibration=two_float.zeros(num_tasks, 3, num_calibration_bins),
    )


def update(
    state: MetricState,
    *,
    logits: Float[Array, "B L"],
    labels: Float[Array, "B L"],
    weights: Float[Array, "B"],
) -> MetricState:
    """Add a batch of examples; pure, for use inside a jitted step.

    Args:
        state: Sums so far.
        logits: Predicted log-odds, any float type; evaluated in float32.
        labels: 0 or 1.
        weights: Weight of each example, >= 0. An example of weight 0 changes nothing,
            whatever its logit.

    Returns:
        The new sums.
    """
    logits = logits.T.astype(jnp.float32)
    labels = labels.T.astype(jnp.float32)
    present = jnp.broadcast_to(weights > 0, logits.shape)
    used = present & jnp.isfinite(logits)
    # Selected before any arithmetic: 0 * NaN would be NaN.
    logits = jnp.where(used, logits, 0.0)
    labels = jnp.where(used, labels, 0.0)
    weights = jnp.where(used, weights.astype(jnp.float32), 0.0)
    probabilities = jax.nn.sigmoid(logits)

    num_auc_bins = state.scores.high.shape[-1]
    squashed = logits / (_LOGIT_SCALE + jnp.abs(logits))
    score_bins = _bin(0.5 * (squashed + 1.0), num_auc_bins)
    scores = jnp.stack([weights * (1.0 - labels), weights * labels], axis=1)
    num_calibration_bins = state.calibration.high.shape[-1]
    calibration = jnp.stack([weights, weights * probabilities, weights * labels], axis=1)
    in_bin = (
        _bin(probabilities, num_calibration_bins)[:, None, :]
        == (jnp.arange(num_calibration_bins)[:, None])
    )
    calibration = calibration[:, :, None, :] * in_bin[:, None]

    def count(examples: Bool[Array, "L B"]) -> TwoFloatSum:
        return two_float.from_float32(jnp.sum(examples, axis=-1).astype(jnp.float32))

    batch = MetricState(
        loss=two_float.sum_last(weights * binary_cross_entropy(logits, labels)),
        count=count(used),
        nonfinite=count(present & ~used),
        scores=two_float.from_float32(_histogram(score_bins, scores, num_auc_bins)),
        calibration=two_float.sum_last(calibration),
    )
    return merge(state, batch)


def merge(a: MetricState, b: MetricState) -> MetricState:
    """Return the state of the examples of both, element by element a sum."""

    def is_sum(node: object) -> bool:
        return isinstance(node, TwoFloatSum)

    return jax.tree.map(two_float.add, a, b, is_leaf=is_sum)


def compute(
    state: MetricState,
    *,
    label_rate: float | Sequence[float],
    tasks: Sequence[str] = (),
    task_weights: Sequence[float] | None = None,
) -> dict[str, float]:
    """Turn sums into metrics; on host, in float64.

        normalized_entropy       log_loss / entropy(label_rate of the training set)
        normalized_entropy_eval  log_loss / entropy(weighted mean label of these examples)
        auc_roc                  from the histogram of logits, a pair in one bin counting one
                                 half; usually within 5e-5 of the exact value, but not where
                                 most logits lie within a few bins (0.001 .. 0.004) of each other
        auc_roc_margin           the most that auc_roc can be off: half the weight of the pairs
                                 in one bin, as a share of all pairs
        log_loss                 weighted mean of the binary cross entropies, in nats
        calibration              sum of probabilities / sum of labels
        ece                      sum over probability bins of weight share * |mean p - mean y|
        count, weight            examples and their weight
        num_nonfinite            examples left out because their logit is NaN or infinite

    A metric that the examples do not define (none seen; a single class) is NaN.

    Args:
        state: Sums.
        label_rate: Weighted mean label of the training set (`data/label_rates.py`), in (0, 1): one
            number, or one per task.
        tasks: Names of the tasks; needed when there are several.
        task_weights: Of the tasks, >= 0, in the mean over them; None: all the same.

    Returns:
        The metrics by name. With several tasks, each key is "task/metric", and
        "normalized_entropy" is the mean over tasks (`tasks.py`).

    Raises:
        ValueError: On a label rate outside (0, 1), or another number of rates or task names
            than the state has tasks.
    """
    num_tasks = state.loss.high.shape[0]
    rates = np.atleast_1d(np.asarray(label_rate, np.float64))
    if len(rates) not in (1, num_tasks):
        raise ValueError(f"expected 1 or {num_tasks} label rates, got {len(rates)}")
    rates = [float(rate) for rate in np.broadcast_to(rates, num_tasks)]
    names = tuple(tasks) or ("",) * num_tasks
    if len(names) != num_tasks or (num_tasks > 1 and not tasks):
        raise ValueError(f"expected the names of {num_tasks} tasks, got {tuple(tasks)}")
    by_task = [_compute_task(state, task, rate) for task, rate in enumerate(rates)]
    if num_tasks == 1:
        return by_task[0]
    metrics = {
        f"{name}/{key}": value
        for name, values in zip(names, by_task, strict=True)
        for key, value in values.items()
    }
    mean = mean_over_tasks([values["normalized_entropy"] for values in by_task], task_weights)
    return {"normalized_entropy": mean, **metrics}


def binary_cross_entropy(
    logits: Float[Array, "*shape"], labels: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return -y log p - (1 - y) log(1 - p) of p = sigmoid(logits), in float32.

    Written with softplus, accurate in both tails, where log(sigmoid(z)) underflows.

    Args:
        logits: Log-odds, any float type.
        labels: Probability of the positive class, in [0, 1].

    Returns:
        The cross entropy of each element, in nats.
    """
    logits = logits.astype(jnp.float32)
    labels = labels.astype(jnp.float32)
    return labels * jax.nn.softplus(-logits) + (1.0 - labels) * jax.nn.softplus(logits)


def binary_entropy(rate: float) -> float:
    """Return -(p log p + (1 - p) log(1 - p)) of p = rate, in nats; 0 at p = 0 and p = 1.

    Raises:
        ValueError: If the rate is not in [0, 1].
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"expected a rate in [0, 1], got {rate}")
    return -sum(p * math.log(p) for p in (rate, 1.0 - rate) if p > 0.0)


def _bin(unit: Float[Array, "L B"], num_bins: int) -> Int[Array, "L B"]:
    return jnp.clip((unit * num_bins).astype(jnp.int32), 0, num_bins - 1)


def _histogram(
    bins: Int[Array, "L B"], values: Float[Array, "L columns B"], num_bins: int
) -> Float[Array, "L columns bins"]:
    """Sum the values of each bin; exact in float32 when the values are 0 and 1."""
    num_tasks, num_columns, _ = values.shape
    task = jnp.arange(num_tasks)[:, None, None]
    column = jnp.arange(num_columns)[None, :, None]
    zeros = jnp.zeros((num_tasks, num_columns, num_bins))
    return zeros.at[task, column, bins[:, None, :]].add(values)


def _compute_task(state: MetricState, task: int, label_rate: float) -> dict[str, float]:
    if not 0.0 < label_rate < 1.0:
        raise ValueError(f"expected a label rate in (0, 1), got {label_rate}")
    negatives, positives = two_float.value(state.scores)[task]
    bin_weights, bin_probabilities, bin_labels = two_float.value(state.calibration)[task]
    weight, labels = bin_weights.sum(), bin_labels.sum()
    log_loss = _ratio(two_float.value(state.loss)[task], weight)
    ece = _ratio(np.abs(bin_probabilities - bin_labels).sum(), weight)
    # The order within a bin is unknown: a pair in one bin counts one half, as a tie does.
    below = np.cumsum(negatives) - 0.5 * negatives
    pairs = positives.sum() * negatives.sum()
    eval_rate = min(_ratio(labels, weight), 1.0)
    return {
        "normalized_entropy": log_loss / binary_entropy(label_rate),
        "normalized_entropy_eval": (
            _ratio(log_loss, binary_entropy(eval_rate)) if weight > 0 else math.nan
        ),
        "auc_roc": _ratio(positives @ below, pairs),
        "auc_roc_margin": _ratio(0.5 * (positives @ negatives), pairs),
        "log_loss": log_loss,
        "calibration": _ratio(bin_probabilities.sum(), labels),
        "ece": ece,
        "count": float(two_float.value(state.count)[task]),
        "weight": float(weight),
        "num_nonfinite": float(two_float.value(state.nonfinite)[task]),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else math.nan
