"""Which features of a data set a model reads."""

import dataclasses

import numpy as np

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.cross import columns_of
from kunlun_jax.data.schema import Schema
from kunlun_jax.shapes import Array, Float


def features_in_use(schema: Schema, model: ModelConfig) -> Schema:
    """Return the part of a schema that a model reads: without the numbers that it does not.

    Args:
        schema: The data set's schema.
        model: The model.
    """
    if not model.use_dense:
        streams = tuple(dataclasses.replace(stream, dense=()) for stream in schema.streams)
        return dataclasses.replace(schema, dense=(), streams=streams, cross=(), popularity=())
    cross = schema.cross if model.count_features else ()
    popularity = schema.popularity if model.popularity_features else ()
    read = columns_of((*cross, *popularity))
    if read == schema.derived:
        return schema
    left_out = {column.name for column in schema.derived if column not in read}
    dense = tuple(f for f in schema.dense if f.name not in left_out)
    return dataclasses.replace(schema, dense=dense, cross=cross, popularity=popularity)


def numbers_in_use(
    dense: Float[Array, "B A"], schema: Schema, used: Schema
) -> Float[Array, "B read"]:
    """Return the columns of a batch's dense features that a model reads.

    Args:
        dense: All columns of the schema.
        schema: The data set's schema.
        used: What `features_in_use` made of it.
    """
    names = [f.name for f in schema.dense]
    columns = [names.index(f.name) for f in used.dense]
    return dense if len(columns) == len(names) else dense[:, np.array(columns, int)]
