"""Mean and standard deviation of dense features: fitted by the build, applied by the pipeline."""

import dataclasses

import numpy as np

from kunlun_jax.data.quality.summary import Moments, Summary, signed_log1p
from kunlun_jax.data.schema import DenseFeature, Schema

_BLOCK = 4096  # rows standardised together, all columns at once: they stay in the cache


def standardize(values: np.ndarray, features: tuple[DenseFeature, ...]) -> np.ndarray:
    """Standardise columns: (transform(x) - mean) / std.

    What is no finite float32, before or after, is unknown: it gets the mean, 0.

    Args:
        values: [n, features] raw.
        features: The columns, with mean and std filled in.

    Returns:
        float32 [n, features].
    """
    mean, std = (np.array([getattr(f, x) for f in features]) for x in ("mean", "std"))
    logarithmic = np.array([f.log1p for f in features], bool)
    result = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore"):
        for first in range(0, len(values), _BLOCK):
            rows = slice(first, first + _BLOCK)
            block = values[rows].astype(np.float64)
            block[:, logarithmic] = signed_log1p(block[:, logarithmic])
            result[rows] = (block - mean) / std
    return np.nan_to_num(result, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def fit_schema(schema: Schema, summary: Summary) -> Schema:
    """Fill in the mean and std of every dense feature, as the training split has them.

    For the attributes of events these are the events that some training example can see.
    """
    task = schema.labels[0]
    dense = tuple(_fit(f, training_moments(summary, f.name, task)) for f in schema.dense)
    streams = tuple(
        dataclasses.replace(
            stream,
            dense=tuple(
                _fit(f, summary.moments[f"event/{stream.name}/{f.name}"]) for f in stream.dense
            ),
        )
        for stream in schema.streams
    )
    return dataclasses.replace(schema, dense=dense, streams=streams)


def training_moments(summary: Summary, feature: str, task: str) -> Moments:
    """Return the moments of a dense feature over the training examples, of any task's labels."""
    negative, positive = (summary.moments[f"dense/{feature}/{task}/{label}"] for label in (0, 1))
    return negative.merge(positive)


def _fit(feature: DenseFeature, moments: Moments) -> DenseFeature:
    return dataclasses.replace(feature, mean=moments.mean, std=moments.std or 1.0)
