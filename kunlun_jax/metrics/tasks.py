"""The tasks of a run: their share of the loss, the headline over them, and the same in words.

    loss      sum_l a_l BCE_l / sum_l a_l          of every example, averaged with its weight
    headline  sum_l a_l NE_l / sum_l a_l           decides which checkpoint is the best

with a_l of `config.training.task_weights`, 1 by default, so that only ratios matter. A task of
weight 0 is evaluated, but neither trained nor part of the headline.
"""

import math
from collections.abc import Mapping, Sequence

from kunlun_jax.config import ConfigError, TrainingConfig

FIELD = "config.training.task_weights"


def task_weights(config: TrainingConfig, tasks: Sequence[str]) -> tuple[float, ...] | None:
    """Return the weight of every task; None where all are the same, and the mean is meant.

    Args:
        config: The weights that were set, by task.
        tasks: Names of the data set's tasks.

    Raises:
        ConfigError: If a weight is of no task, or all are 0.
    """
    given = dict(config.task_weights)
    for name in given:
        if name not in tasks:
            raise ConfigError(
                f"{FIELD}: expected labels of the data set, {list(tasks)}, got {name!r}"
            )
    weights = tuple(float(given.get(task, 1.0)) for task in tasks)
    if not any(weights):
        raise ConfigError(
            f"{FIELD}: expected a weight above 0, got 0 for every one of {list(tasks)}"
        )
    return None if len(set(weights)) == 1 else weights


def mean_over_tasks(values: Sequence[float], weights: Sequence[float] | None) -> float:
    """Return the mean of a number of every task, weighted as the loss is.

    Args:
        values: By task.
        weights: Of the tasks; None: all the same. What a task of weight 0 has does not matter,
            even if it is NaN.
    """
    if weights is None:
        return sum(values) / len(values)
    used = [(weight, value) for weight, value in zip(weights, values, strict=True) if weight > 0]
    return math.fsum(w * v for w, v in used) / math.fsum(w for w, _ in used)


def headline(tasks: Sequence[str], weights: Sequence[float] | None) -> str:
    """Say which NE decides.

    Args:
        tasks: Names of the tasks.
        weights: Of the tasks; None: all the same.

    Returns:
        A phrase, such as "mean NE over the tasks click and buy"; with one task, "NE".
    """
    if len(tasks) == 1:
        return "NE"
    if weights is None:
        return f"mean NE over the tasks {_list(tasks)}, all of weight 1"
    counted = [f"{n} of weight {w:g}" for n, w in zip(tasks, weights, strict=True) if w > 0]
    left_out = [n for n, w in zip(tasks, weights, strict=True) if not w > 0]
    rest = f"; without {_list(left_out)}, of weight 0" if left_out else ""
    return f"mean NE over the tasks {_list(counted)} ({FIELD}){rest}"


def by_task(values: Mapping[str, float], tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of every task, by its name, without the prefix "task/".

    Args:
        values: Of an evaluation.
        tasks: Names of the tasks.
    """
    if len(tasks) == 1:
        return {tasks[0]: dict(values)}
    return {
        task: {
            key.removeprefix(f"{task}/"): value
            for key, value in values.items()
            if key.startswith(f"{task}/")
        }
        for task in tasks
    }


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
