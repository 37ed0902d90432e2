"""Which features of a data set a model reads."""

import dataclasses

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.schema import Schema


def features_in_use(schema: Schema, model: ModelConfig) -> Schema:
    """Return the part of a schema that a model reads: without numbers where it has none.

    Args:
        schema: The data set's schema.
        model: The model.
    """
    if model.use_dense:
        return schema
    streams = tuple(dataclasses.replace(stream, dense=()) for stream in schema.streams)
    return dataclasses.replace(schema, dense=(), streams=streams)
