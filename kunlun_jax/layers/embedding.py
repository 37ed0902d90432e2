"""Embedding tables, their one lookup function, and the tables cut down to a batch's rows.

Tables live in the Linen collection "tables", apart from the dense parameters, because they are
updated apart: a step touches only the rows of its batch. `compact_tables` makes that possible
without the model knowing: it returns small tables that hold just those rows, and the batch with its
ids renumbered accordingly. A model applied to the pair computes what it computes on the originals,
and its gradient with respect to the small tables is the whole gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import OOV_ID, Schema
from kunlun_jax.shapes import Array, Bool, Float, Int


def known_ids(ids: Int[Array, "*ids"], num_rows: int) -> Int[Array, "*ids"]:
    """Return the ids with everything outside 1 .. num_rows - 1 replaced by the OOV row, 0."""
    return jnp.where((ids > OOV_ID) & (ids < num_rows), ids, OOV_ID)


def lookup(table: Float[Array, "rows D"], ids: Int[Array, "*ids"]) -> Float[Array, "*ids D"]:
    """Return the rows of a table; any id without a row gives the OOV row, row 0.

    The only place that indexes a table: `jnp.take` alone would give NaN for an id that is too
    large and the last row for -1.

    Args:
        table: Embedding table with the OOV row first.
        ids: Any integers.
    """
    return table.at[known_ids(ids, table.shape[0])].get(mode="promise_in_bounds")


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
    """One table of width D for every vocabulary of the schema.

    OOV rows start at 0: where training meets no unknown id, all unknown ids would otherwise share
    one random vector, and two different unknown items would look equal.

    Attributes:
        schema: The data set's schema.
        dim: Width D.
        init_std: Standard deviation of the initial rows.
    """

    schema: Schema
    dim: int
    init_std: float

    @nn.compact
    def __call__(self) -> dict[str, Float[Array, "_ D"]]:
        """Return the tables by vocabulary name."""

        def create(num_rows: int) -> Callable[[], Any]:
            def rows(key: Array) -> Array:
                drawn = nn.initializers.normal(self.init_std)(key, (num_rows, self.dim))
                return drawn.at[OOV_ID].set(0.0)

            init = nn.with_logical_partitioning(rows, ("vocab", "embed"))
            return lambda: init(self.make_rng("params"))

        return {
            v.name: self.variable("tables", v.name, create(v.num_rows)).value
            for v in self.schema.vocabularies
        }


def count_out_of_vocabulary(batch: Batch, schema: Schema) -> tuple[Array, Array]:
    """Count ids that fall on the OOV row, and all ids, over what is not padding.

    Returns:
        Two int32 scalars: out-of-vocabulary ids, and ids.
    """
    unknown = jnp.zeros((), jnp.int32)
    total = jnp.zeros((), jnp.int32)
    tables = schema.vocabulary_by_name
    for vocabulary, ids, real in _id_arrays(batch, schema):
        is_unknown = known_ids(ids, tables[vocabulary].num_rows) == OOV_ID
        unknown += jnp.sum(real & is_unknown, dtype=jnp.int32)
        total += jnp.sum(real, dtype=jnp.int32)
    return unknown, total


def compact_tables(
    tables: Mapping[str, Array], batch: Batch, schema: Schema
) -> tuple[dict[str, Array], dict[str, Array | None], Batch]:
    """Cut the tables down to the rows a batch uses.

    The cost depends on the batch, not on the vocabularies: a table with no more rows than the batch
    has ids is passed through whole; any other is replaced by the batch's distinct rows, padded to a
    fixed count (its ids are sorted once to find them).

    Args:
        tables: Embedding tables by vocabulary.
        batch: The batch.
        schema: Its schema.

    Returns:
        The small tables; for each the numbers of its rows in the original table, or None where it
        was passed through; and the batch with its ids renumbered. Row 0 stays the OOV row. Padding
        among the row numbers is one past the last row, so that a scatter drops it.
    """
    id_arrays = _id_arrays(batch, schema)
    small: dict[str, Array] = {}
    rows: dict[str, Array | None] = {}
    renumbered: list[Array] = [ids for _, ids, _ in id_arrays]
    for name, table in tables.items():
        places = [i for i, (vocabulary, _, _) in enumerate(id_arrays) if vocabulary == name]
        small[name], rows[name] = table, None
        if table.shape[0] <= sum(id_arrays[i][1].size for i in places):
            continue
        flat = [jnp.zeros(1, jnp.int32)]  # the OOV row comes along, and comes first
        for i in places:
            _, ids, real = id_arrays[i]
            flat.append(jnp.where(real, known_ids(ids, table.shape[0]), OOV_ID).ravel())
        rows[name], inverse = _distinct(jnp.concatenate(flat), fill=table.shape[0])
        small[name] = table.at[rows[name]].get(mode="clip")
        start = 1
        for i in places:
            shape, size = id_arrays[i][1].shape, id_arrays[i][1].size
            renumbered[i] = inverse[start : start + size].reshape(shape)
            start += size
    return small, rows, _with_ids(batch, schema, renumbered)


def _distinct(ids: Int[Array, "M"], *, fill: int) -> tuple[Int[Array, "M"], Int[Array, "M"]]:
    """Return the distinct ids in ascending order, filled up, and the place of every id in them."""
    ordered, origin = jax.lax.sort((ids, jnp.arange(ids.size, dtype=jnp.int32)), num_keys=1)
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    place = jnp.cumsum(is_new, dtype=jnp.int32)
    distinct = jnp.full_like(ids, fill).at[place].set(ordered, mode="promise_in_bounds")
    inverse = (
        jnp.zeros_like(ids).at[origin].set(place, mode="promise_in_bounds", unique_indices=True)
    )
    return distinct, inverse


def _id_arrays(batch: Batch, schema: Schema) -> list[tuple[str, Array, Bool[Array, "B _"]]]:
    """List vocabulary name, ids and which of them are real, for every id array of a batch."""
    arrays = []
    for feature in schema.sparse:
        values = batch.sparse[feature.name]
        real = jnp.arange(values.ids.shape[1]) < values.lengths[:, None]
        arrays.append((feature.vocabulary, values.ids, real))
    for name, events in batch.streams.items():
        for event_id in schema.stream_by_name[name].ids:
            ids = events.ids[event_id.name]
            real = jnp.arange(ids.shape[1]) < events.lengths[:, None]
            arrays.append((event_id.vocabulary, ids, real))
    return arrays


def _with_ids(batch: Batch, schema: Schema, arrays: list[Array]) -> Batch:
    """Rebuild a batch with the id arrays that `_id_arrays` listed replaced."""
    remaining = iter(arrays)
    sparse = {
        f.name: batch.sparse[f.name].replace(ids=next(remaining))  # type: ignore[attr-defined]
        for f in schema.sparse
    }
    streams = {
        name: events.replace(  # type: ignore[attr-defined]
            ids={f.name: next(remaining) for f in schema.stream_by_name[name].ids}
        )
        for name, events in batch.streams.items()
    }
    return batch.replace(sparse=sparse, streams=streams)  # type: ignore[attr-defined]
