"""Data sets whose examples are changed in memory, as no build would write them."""

import dataclasses

import numpy as np

from kunlun_jax.data import Dataset
from kunlun_jax.data.label_rates import label_weights


def with_examples(dataset: Dataset, split: str, **values: float) -> Dataset:
    """Return a data set whose examples of a split have one value in a column, or in all of a kind.

    Args:
        dataset: The data set, which stays as it is.
        split: The split.
        **values: By field of `Examples`, the value.
    """
    columns = dataset.columns
    examples = columns.splits[split]
    arrays = {}
    for field, value in values.items():
        old = getattr(examples, field)
        arrays[field] = (
            {name: np.full_like(array, value) for name, array in old.items()}
            if isinstance(old, dict)
            else np.full_like(old, value)
        )
    examples = dataclasses.replace(examples, **arrays)
    weight, positives = label_weights(examples)
    sums = {"weight": weight, "positives": positives.tolist()}
    statistics = columns.statistics | {"weights": columns.statistics["weights"] | {split: sums}}
    columns = dataclasses.replace(
        columns, splits=columns.splits | {split: examples}, statistics=statistics
    )
    return dataclasses.replace(dataset, parts={0: columns})
