"""The one definition of a label rate: the mean label, weighted by the examples' weights.

    rate = sum_i w_i y_i / sum_i w_i        over the examples of a split, by task, in float64

Normalized entropy is relative to the entropy of the training split's rate: the constant prediction
that is best on the training examples, weighted as the loss weights them, has NE 1 there. Where
every weight is 1, it is the share of positives.
"""

from collections.abc import Sequence

import numpy as np

from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.tables import Examples


def label_rates(
    weight: float, positives: Sequence[float] | np.ndarray, tasks: Sequence[str]
) -> dict[str, float | None]:
    """Return the label rate of every task; None where no example has a weight above 0.

    Args:
        weight: Of all examples of a split (`label_weights`).
        positives: [tasks], that of each task's positives.
        tasks: Names of the label columns.
    """
    if weight <= 0.0:
        return dict.fromkeys(tasks)
    return {task: float(total / weight) for task, total in zip(tasks, positives, strict=True)}


def label_weights(examples: Examples) -> tuple[float, np.ndarray]:
    """Return the weight of all examples, and float64 [tasks], that of the positives of each task.

    Args:
        examples: Of one split.
    """
    weights = examples.weights.astype(np.float64)
    positives = [(weights * labels).sum() for labels in examples.labels.T.astype(np.float64)]
    return float(weights.sum()), np.array(positives)


def training_rate(rates: dict[str, float | None], task: str, directory: object) -> float:
    """Return the rate of a task to which NE is relative.

    Args:
        rates: Of the training split, by task.
        task: The task.
        directory: Where the data set is, for the message.

    Raises:
        DatasetError: If its entropy is 0, or there is no rate.
    """
    rate = rates[task]
    if rate is None:
        raise DatasetError(
            f"{directory}: split 'train': expected examples with a weight above 0, got none"
        )
    if not 0.0 < rate < 1.0:
        raise DatasetError(
            f"{directory}: expected training labels {task!r} of both classes, got a mean of "
            f"{rate}, weighted by the examples' weights"
        )
    return rate
