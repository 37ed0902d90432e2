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
from kunlun_jax.layers.table_exchange import distinct_rows, fetch
from kunlun_jax.shapes import Array, Bool, Float, Int
from kunlun_jax.sharding import (
    AXES,
    EXAMPLES,
    TABLE,
    active_mesh,
    is_split,
    on_each_shard,
    on_every_device,
)


def known_ids(ids: Int[Array, "*ids"], num_rows: int) -> Int[Array, "*ids"]:
    """Return the ids with everything outside 1 .. num_rows - 1 replaced by the OOV row, 0."""
    return jnp.where((ids > OOV_ID) & (ids < num_rows), ids, OOV_ID)


def lookup(table: Float[Array, "... rows D"], ids: Int[Array, "*ids"]) -> Float[Array, "*ids D"]:
    """Return the rows of a table; any id without a row gives the OOV row, row 0.

    The only place that indexes a table: `jnp.take` alone would give NaN for an id that is too
    large and the last row for -1.

    Args:
        table: Embedding table with the OOV row first; or [shards, rows, D], the rows that each
            shard of the batch uses (`compact_tables`), with ids that count within the shard.
        ids: Any integers.
    """
    if table.ndim == 2:
        return table.at[known_ids(ids, table.shape[0])].get(mode="promise_in_bounds")
    rest = (None,) * (ids.ndim - 1)
    return on_each_shard(
        lambda table, ids: lookup(table[0], ids),
        {"table": (table, ("batch", None, None)), "ids": (ids, ("batch", *rest))},
        ("batch", *rest, None),
    )


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
    def __call__(self) -> dict[str, Float[Array, "... D"]]:
        """Return the tables by vocabulary name."""

        def create(num_rows: int) -> Callable[[], Any]:
            def rows(key: Array) -> Array:
                drawn = nn.initializers.normal(self.init_std)(key, (num_rows, self.dim))
                return drawn.at[OOV_ID].set(0.0)

            init = nn.with_logical_partitioning(rows, TABLE)
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

    The cost depends on the batch, not on the vocabularies. On one device a table with no more rows
    than the batch has ids is passed through whole; any other is replaced by the batch's distinct
    rows, padded to a fixed count (its ids are sorted once to find them). On a mesh every shard of
    the batch gets the rows of its own, from the devices that own them (`table_exchange.py`), and
    only a table that is not split is passed through.

    Args:
        tables: Embedding tables by vocabulary.
        batch: The batch.
        schema: Its schema.

    Returns:
        The small tables, on a mesh with a leading axis of the batch's shards; for each the numbers
        of its rows in the original table, or None where it was passed through; and the batch with
        its ids renumbered. Row 0 stays the OOV row. Padding among the row numbers is one past the
        last row, so that a scatter drops it.
    """
    mesh = active_mesh()
    if mesh is None:
        sizes = _ids_by_table(batch, schema)
        cut = {name: t for name, t in tables.items() if t.shape[0] > sizes.get(name, 0)}
        rows, local = _distinct_rows({name: t.shape[0] for name, t in cut.items()}, batch, schema)
        found = {name: t.at[rows[name]].get(mode="clip") for name, t in cut.items()}
    else:
        cut = {name: t for name, t in tables.items() if is_split(t.shape, TABLE, mesh)}

        def fetch_own(blocks: dict[str, Array], batch: Batch) -> tuple[dict, dict, Batch]:
            sizes = {name: block.shape[0] * mesh.size for name, block in blocks.items()}
            rows, local = _distinct_rows(sizes, batch, schema)
            found = {name: fetch(block, rows[name], AXES) for name, block in blocks.items()}
            return *jax.tree.map(lambda x: x[None], (found, rows)), local

        found, rows, local = on_every_device(
            fetch_own, (TABLE[:1], EXAMPLES), (EXAMPLES, EXAMPLES, EXAMPLES)
        )(cut, batch)
    passed = {name: t for name, t in tables.items() if name not in cut}
    return {**passed, **found}, {**dict.fromkeys(passed), **rows}, local


def _ids_by_table(batch: Batch, schema: Schema) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for vocabulary, ids, _ in _id_arrays(batch, schema):
        sizes[vocabulary] = sizes.get(vocabulary, 0) + ids.size
    return sizes


def _distinct_rows(
    num_rows: Mapping[str, int], batch: Batch, schema: Schema
) -> tuple[dict[str, Array], Batch]:
    """Return the distinct rows of each table named, and the batch with ids that count in them."""
    id_arrays = _id_arrays(batch, schema)
    renumbered: list[Array] = [ids for _, ids, _ in id_arrays]
    rows = {}
    for name, size in num_rows.items():
        places = [i for i, (vocabulary, _, _) in enumerate(id_arrays) if vocabulary == name]
        flat = [jnp.zeros(1, jnp.int32)]  # the OOV row comes along, and comes first
        for i in places:
            _, ids, real = id_arrays[i]
            flat.append(jnp.where(real, known_ids(ids, size), OOV_ID).ravel())
        rows[name], inverse = distinct_rows(jnp.concatenate(flat), fill=size)
        start = 1
        for i in places:
            shape, count = id_arrays[i][1].shape, id_arrays[i][1].size
            renumbered[i] = inverse[start : start + count].reshape(shape)
            start += count
    return rows, _with_ids(batch, schema, renumbered)


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
