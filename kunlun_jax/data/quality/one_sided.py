"""Frequent values of a feature beside which every training example has the same label.

Such a value is no leak for certain: bulk offers may always be bought. It is told with its support.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

from kunlun_jax.data.quality.leaks import TrainingSample
from kunlun_jax.data.schema import Schema

# Fewer users may have a label of their own.
LEAST_USERS = 20
# Chance gives a value of an honest feature one label only with less than this probability.
CHANCE = 1e-12


@dataclasses.dataclass(frozen=True)
class OneSided:
    """A value that comes with one label.

    Attributes:
        feature: Name of the column.
        value: The number, or the id; None: no value.
        task: Name of the label.
        label: 0 or 1.
        support: Training examples with the value, of the sample.
        size: Training examples of the sample.
    """

    feature: str
    value: float | int | None
    task: str
    label: int
    support: int
    size: int

    def line(self, name_of: Callable[[str, int], str]) -> str:
        """Return what is to be said of it.

        Args:
            name_of: Returns the value behind a feature and its id.
        """
        value = "no value"
        if self.value is not None:
            named = isinstance(self.value, int)
            text = name_of(self.feature, int(self.value)) if named else f"{self.value:g}"
            value = f"value {text}"
        return (
            f"split 'train': column {self.feature!r}: expected both values of label {self.task!r} "
            f"beside {value}, got {self.label} in all {self.support:,} of its examples "
            f"({self.support / self.size:.1%} of {self.size:,})"
        )


def find_one_sided(schema: Schema, sample: TrainingSample) -> Iterator[OneSided]:
    """Yield every value that is frequent, of many users, and comes with one label only.

    Args:
        schema: The schema; `Limits.one_sided_share` says what is frequent.
        sample: Training examples.
    """
    users, labels = sample.column("users"), sample.column("labels")
    if not len(users):
        return
    for i, feature in enumerate(schema.dense):
        values = sample.column("dense")[:, i].astype(np.float64)
        levels, level_of = np.unique(values, return_inverse=True)  # NaN is one level
        named = [None if math.isnan(level) else float(level) for level in levels.tolist()]
        rows = np.arange(len(values))
        yield from _of_levels(schema, feature.name, named, rows, level_of, users, labels)
    for feature in schema.sparse:
        ids = sample.column("sparse", feature.name).astype(np.int64)
        lengths = sample.column("sparse_lengths", feature.name)
        rows, columns = np.nonzero(np.arange(ids.shape[1]) < np.maximum(lengths, 1)[:, None])
        found = np.where(lengths[rows] == 0, -1, ids[rows, columns])
        pairs = np.unique(np.stack([rows, found]), axis=1)  # a cell may hold a value twice
        levels, level_of = np.unique(pairs[1], return_inverse=True)
        named = [None if level < 0 else int(level) for level in levels.tolist()]
        yield from _of_levels(schema, feature.name, named, pairs[0], level_of, users, labels)


def _of_levels(
    schema: Schema,
    feature: str,
    values: list[float | None] | list[int | None],
    rows: np.ndarray,
    level_of: np.ndarray,
    users: np.ndarray,
    labels: np.ndarray,
) -> Iterator[OneSided]:
    """Yield those of one feature; example `rows[i]` has the value `values[level_of[i]]`."""
    support = np.bincount(level_of, minlength=len(values))
    frequent = support >= max(schema.limits.one_sided_share * len(users), LEAST_USERS)
    for i, task in enumerate(schema.labels):
        positive = labels[:, i] > 0
        rate = positive.mean()
        if not 0.0 < rate < 1.0:
            continue
        ones = np.bincount(level_of, positive[rows], minlength=len(values))
        for label, other in ((0, ones == 0), (1, ones == support)):
            chance = np.log1p(-rate) if label == 0 else np.log(rate)
            for level in np.flatnonzero(frequent & other & (support * chance < math.log(CHANCE))):
                if len(np.unique(users[rows[level_of == level]])) >= LEAST_USERS:
                    yield OneSided(
                        feature, values[level], task, label, int(support[level]), len(users)
                    )
