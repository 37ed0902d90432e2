"""Embeddings: what ids look like to a model.

Tables live in the Linen collection "tables", apart from the dense parameters, because they are
updated apart: a step touches only the rows of its batch (`kunlun_jax.tables`).
"""

from collections.abc import Callable
from typing import Any, no_type_check

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from kunlun_jax.data.schema import OOV_ID, Schema, Vocabulary
from kunlun_jax.layers.initializers import shared_projection
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float, Int
from kunlun_jax.sharding import TABLE
from kunlun_jax.tables import lookup, stored_rows


@no_type_check
@flax.struct.dataclass
class Embedding:
    """What the values of a vocabulary look like to a model: a function of their ids.

    Attributes:
        table: The table, as `lookup` takes it.
        projection: [W, D], where the table's width W is not the model's.
        vocabulary: The vocabulary.
    """

    table: Array
    projection: Array | None
    vocabulary: Vocabulary = flax.struct.field(pytree_node=False)

    def __call__(self, ids: Array, dtype: jnp.dtype) -> Array:
        """Return [*ids, D]; under double hashing, the sum over the two ids of every value.

        Args:
            ids: Any integers; under double hashing [..., 2].
            dtype: Compute type.
        """
        rows = lookup(self.table, ids, self.vocabulary.num_rows).astype(dtype)
        if self.vocabulary.hashes == 2:
            rows = jnp.sum(rows, axis=-2)
        return rows if self.projection is None else rows @ self.projection.astype(dtype)


def combine(
    rows: Float[Array, "B V D"], lengths: Int[Array, "B"], combiner: str
) -> Float[Array, "B D"]:
    """Pool the values of a multi-valued feature; no value at all gives 0.

    Args:
        rows: Embeddings of up to V values.
        lengths: Values that are real.
        combiner: "mean" or "sum".
    """
    real = jnp.arange(rows.shape[1]) < lengths[:, None]
    total = jnp.sum(jnp.where(real[..., None], rows, 0), axis=1)
    if combiner == "sum":
        return total
    return total / jnp.maximum(lengths, 1)[:, None].astype(rows.dtype)


class EmbeddingTables(nn.Module):
    """One table for every vocabulary of the schema.

    OOV rows start at 0: where training meets no unknown id, all unknown ids would otherwise share
    one random vector, and two different unknown items would look equal.

    Attributes:
        schema: The data set's schema.
        dim: Width D of what is looked up.
        init_std: Standard deviation of the initial rows.
        widths: Width by vocabulary, of tables with another one than D; a linear map, shared by all
            that look into the table, brings them to D.
    """

    schema: Schema
    dim: int
    init_std: float
    widths: tuple[tuple[str, int], ...] = ()

    @nn.compact
    def __call__(self) -> dict[str, Embedding]:
        """Return the embeddings by vocabulary name."""
        widths = dict(self.widths)

        def create(num_rows: int, width: int) -> Callable[[], Any]:
            def rows(key: Array) -> Array:
                shape = (stored_rows(num_rows), width)
                return nn.initializers.normal(self.init_std)(key, shape).at[OOV_ID].set(0.0)

            init = nn.with_logical_partitioning(rows, TABLE)
            return lambda: init(self.make_rng("params"))

        embeddings = {}
        for v in self.schema.vocabularies:
            width = widths.get(v.name, self.dim)
            table = self.variable("tables", v.name, create(v.num_rows, width)).value
            projection = None
            if width != self.dim:
                shape, name = (width, self.dim), f"{v.name}_projection"
                projection = parameter(self, name, shared_projection(), (None, "embed"), shape)
            embeddings[v.name] = Embedding(table, projection, v)
        return embeddings
