"""The one object that travels from the pipeline to the model.

The annotations are documentation: `typing.no_type_check` keeps the tests' type checker off these
classes, because JAX also builds them from NumPy arrays, shapes, shardings and None.
"""

import typing
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from kunlun_jax.data.schema import Schema
from kunlun_jax.shapes import Array, Bool, Float, Int


@typing.no_type_check
@flax.struct.dataclass
class EventBatch:
    """The most recent events of one stream, oldest first, for a batch of examples.

    Attributes:
        ids: By event id feature, the id of every event; under double hashing, both, [B, T, 2].
        dense: Standardised attributes, in the schema's order.
        ages: Seconds from the event to the request, >= 0. Ages rather than timestamps: they
            fit 32 bits, and every use of time in the model is a difference.
        lengths: Events that are real; whatever stands behind them is padding (zeros).
        matches: By id that the context has too (`Schema.shared_ids`), whether the event's is among
            the candidate's. What is out of vocabulary equals nothing.
    """

    ids: dict[str, Int[Array, "B T ..."]]
    dense: Float[Array, "B T A"]
    ages: Int[Array, "B T"]
    lengths: Int[Array, "B"]
    matches: dict[str, Bool[Array, "B T"]]


@typing.no_type_check
@flax.struct.dataclass
class SparseBatch:
    """The ids of one context feature.

    Attributes:
        ids: Up to V ids per example, under double hashing pairs, [B, V, 2]; behind the true
            length, padding (zeros).
        lengths: Values that are real.
    """

    ids: Int[Array, "B V ..."]
    lengths: Int[Array, "B"]


@typing.no_type_check
@flax.struct.dataclass
class Batch:
    """A batch of examples, of fixed shape.

    Attributes:
        dense: Standardised context features, in the schema's order.
        sparse: Categorical context features by name.
        streams: Event streams by name.
        labels: One column per task, in the schema's order; 0 or 1.
        weights: Weight of each example; 0 marks padding of the last batch of an evaluation.
        user_ids: Dense index of the user in the data set (for per-user metrics).
    """

    dense: Float[Array, "B A"]
    sparse: dict[str, SparseBatch]
    streams: dict[str, EventBatch]
    labels: Float[Array, "B L"]
    weights: Float[Array, "B"]
    user_ids: Int[Array, "B"]


def batch_shapes(schema: Schema, max_lens: Mapping[str, int], batch_size: int) -> Batch:
    """Return the shapes of a batch, as `jax.ShapeDtypeStruct`, without any data.

    Args:
        schema: The data set's schema.
        max_lens: By stream that the model reads, the events that it takes.
        batch_size: Examples.
    """
    vocabularies = schema.vocabulary_by_name

    def shape(dtype: typing.Any, *rest: int) -> typing.Any:
        return jax.ShapeDtypeStruct((batch_size, *rest), dtype)

    def ids(count: int, vocabulary: str) -> typing.Any:
        pair = (2,) if vocabularies[vocabulary].hashes == 2 else ()
        return shape(jnp.int32, count, *pair)

    return Batch(
        dense=shape(jnp.float32, len(schema.dense)),
        sparse={
            f.name: SparseBatch(ids=ids(f.max_values, f.vocabulary), lengths=shape(jnp.int32))
            for f in schema.sparse
        },
        streams={
            name: EventBatch(
                ids={f.name: ids(length, f.vocabulary) for f in schema.stream_by_name[name].ids},
                dense=shape(jnp.float32, length, len(schema.stream_by_name[name].dense)),
                ages=shape(jnp.int32, length),
                lengths=shape(jnp.int32),
                matches={shared: shape(jnp.bool, length) for shared in schema.shared_ids[name]},
            )
            for name, length in max_lens.items()
        },
        labels=shape(jnp.float32, len(schema.labels)),
        weights=shape(jnp.float32),
        user_ids=shape(jnp.int32),
    )
