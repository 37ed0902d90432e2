"""The one object that travels from the pipeline to the model.

The annotations are documentation: `typing.no_type_check` keeps the tests' type checker off these
classes, because JAX also builds them from NumPy arrays, shapes, shardings and None.
"""

import typing

import flax.struct

from kunlun_jax.shapes import Array, Float, Int


@typing.no_type_check
@flax.struct.dataclass
class EventBatch:
    """The most recent events of one stream, oldest first, for a batch of examples.

    Attributes:
        ids: By event id feature, the id of every event.
        dense: Standardised attributes, in the schema's order.
        ages: Seconds from the event to the request, >= 0. Ages rather than timestamps: they
            fit 32 bits, and every use of time in the model is a difference.
        lengths: Events that are real; whatever stands behind them is padding (zeros).
    """

    ids: dict[str, Int[Array, "B T"]]
    dense: Float[Array, "B T A"]
    ages: Int[Array, "B T"]
    lengths: Int[Array, "B"]


@typing.no_type_check
@flax.struct.dataclass
class SparseBatch:
    """The ids of one context feature.

    Attributes:
        ids: Up to V ids per example; behind the true length, padding (zeros).
        lengths: Values that are real.
    """

    ids: Int[Array, "B V"]
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

    dense: Float[Array, "B C"]
    sparse: dict[str, SparseBatch]
    streams: dict[str, EventBatch]
    labels: Float[Array, "B L"]
    weights: Float[Array, "B"]
    user_ids: Int[Array, "B"]
