"""Mean and standard deviation of dense features: fitted by the build, applied by the pipeline."""

import dataclasses

import numpy as np

from kunlun_jax.data.schema import DenseFeature, Schema
from kunlun_jax.data.tables import EventLog, Examples, SourceTables


def transform(values: np.ndarray, feature: DenseFeature) -> np.ndarray:
    """Apply the feature's log1p, sign(x) * log1p(|x|), in float64."""
    values = values.astype(np.float64)
    return np.sign(values) * np.log1p(np.abs(values)) if feature.log1p else values


def standardize(values: np.ndarray, features: tuple[DenseFeature, ...]) -> np.ndarray:
    """Standardise columns: (transform(x) - mean) / std.

    What is no finite float32, before or after, is unknown: it gets the mean, 0.

    Args:
        values: [n, features] raw.
        features: The columns, with mean and std filled in.

    Returns:
        float32 [n, features].
    """
    result = np.empty(values.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for i, feature in enumerate(features):
            result[:, i] = (transform(values[:, i], feature) - feature.mean) / feature.std
    return np.nan_to_num(result, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def fit_schema(tables: SourceTables) -> Schema:
    """Fill in the mean and std of every dense feature from the training split.

    For the attributes of events these are the events that some training example can see.
    """
    schema, train = tables.schema, tables.splits["train"]
    dense = tuple(_fit(f, train.dense[:, i]) for i, f in enumerate(schema.dense))
    streams = []
    for stream in schema.streams:
        log = tables.logs[stream.name]
        seen = _seen_in_training(log, train, train.ends[stream.name])
        attributes = tuple(_fit(f, log.dense[seen, i]) for i, f in enumerate(stream.dense))
        streams.append(dataclasses.replace(stream, dense=attributes))
    return dataclasses.replace(schema, dense=dense, streams=tuple(streams))


def _seen_in_training(log: EventLog, train: Examples, ends: np.ndarray) -> np.ndarray:
    last = np.zeros(len(log.offsets) - 1, dtype=np.int64)
    np.maximum.at(last, train.users, ends)
    sizes = np.diff(log.offsets)
    return np.arange(len(log.times)) < np.repeat(log.offsets[:-1] + last, sizes)


def _fit(feature: DenseFeature, values: np.ndarray) -> DenseFeature:
    known = transform(values, feature)
    known = known[np.isfinite(known)]
    if not known.size:
        return dataclasses.replace(feature, mean=0.0, std=1.0)
    std = float(known.std())
    return dataclasses.replace(feature, mean=float(known.mean()), std=std if std > 0 else 1.0)
