"""Embedding tables, their one lookup function, and the tables cut down to a batch's rows.

Tables live in the Linen collection "tables", apart from the dense parameters, because they are
updated apart: a step touches only the rows of its batch. `compact_tables` makes that possible
without the model knowing: it returns small tables that hold just those rows, and the batch with its
ids renumbered accordingly. A model applied to the pair computes what it computes on the originals,
and its gradient with respect to the small tables is the whole gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import OOV_ID, Schema, Vocabulary
from kunlun_jax.layers.initializers import shared_projection
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.layers.table_exchange import distinct_rows, fetch
from kunlun_jax.layers.table_layout import known_ids, row_of, stored_rows
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


def lookup(
    table: Float[Array, "... rows W"], ids: Int[Array, "*ids"], num_rows: int
) -> Float[Array, "*ids W"]:
    """Return the rows of a table; any id without a row gives the OOV row.

    The only place that indexes a table: `jnp.take` alone would give NaN for an id that is too
    large and the last row for -1.

    Args:
        table: [rows, W], as it is stored; or [shards, rows, W], the rows that each shard of the
            batch uses, with ids that count in them (both from `compact_tables`).
        ids: Any integers.
        num_rows: Rows of the vocabulary, the OOV row included.
    """
    if table.ndim == 2:
        return table.at[row_of(ids, num_rows)].get(mode="promise_in_bounds")
    rest = (None,) * (ids.ndim - 1)
    return on_each_shard(
        lambda table, ids: table[0].at[ids].get(mode="promise_in_bounds"),
        {"table": (table, ("batch", None, None)), "ids": (ids, ("batch", *rest))},
        ("batch", *rest, None),
    )


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


def count_out_of_vocabulary(batch: Batch, schema: Schema) -> tuple[Array, Array]:
    """Count ids that fall on the OOV row, and all ids, over what is not padding.

    Returns:
        Two int32 scalars: out-of-vocabulary ids, and ids.
    """
    unknown = jnp.zeros((), jnp.int32)
    total = jnp.zeros((), jnp.int32)
    tables = schema.vocabulary_by_name
    for vocabulary, ids, real in _id_arrays(batch, schema):
        if ids.ndim == 3:  # two ids of one value
            ids, real = ids[..., 0], real[..., 0]
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
        The small tables, float32; one that was cut has a leading axis of the batch's shards (on one
        device, of 1). For each the numbers of its rows in the original table, with the same leading
        axis, or None where it was passed through; in ascending order, the OOV row's first, and
        filled up with one past the last row, so that a scatter drops it. And the batch with its ids
        renumbered.
    """
    mesh = active_mesh()
    if mesh is None:
        sizes = _ids_by_table(batch, schema)
        cut = {name: t for name, t in tables.items() if t.shape[0] > sizes.get(name, 0)}
        rows, local = _distinct_rows({name: t.shape[0] for name, t in cut.items()}, batch, schema)
        found = {name: t.at[rows[name]].get(mode="clip") for name, t in cut.items()}
        found, rows = jax.tree.map(lambda x: x[None], (found, rows))
    else:
        cut = {name: t for name, t in tables.items() if is_split(t.shape, TABLE, mesh)}

        def fetch_own(blocks: dict[str, Array], batch: Batch) -> tuple[dict, dict, Batch]:
            sizes = {name: block.shape[0] * mesh.size for name, block in blocks.items()}
            rows, local = _distinct_rows(sizes, batch, schema)
            found = fetch(blocks, rows, AXES)
            return *jax.tree.map(lambda x: x[None], (found, rows)), local

        found, rows, local = on_every_device(
            fetch_own, (TABLE[:1], EXAMPLES), (EXAMPLES, EXAMPLES, EXAMPLES)
        )(cut, batch)
    passed = {name: t for name, t in tables.items() if name not in cut}
    # The gradients of repeated ids add up in the type of the small tables.
    small = {name: t.astype(jnp.float32) for name, t in {**passed, **found}.items()}
    return small, {**dict.fromkeys(passed), **rows}, local


def _ids_by_table(batch: Batch, schema: Schema) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for vocabulary, ids, _ in _id_arrays(batch, schema):
        sizes[vocabulary] = sizes.get(vocabulary, 0) + ids.size
    return sizes


def _distinct_rows(
    stored: Mapping[str, int], batch: Batch, schema: Schema
) -> tuple[dict[str, Array], Batch]:
    """Return the distinct rows of each table named, and the batch with ids that count in them."""
    id_arrays = _id_arrays(batch, schema)
    renumbered: list[Array] = [ids for _, ids, _ in id_arrays]
    rows = {}
    for name, size in stored.items():
        places = [i for i, (vocabulary, _, _) in enumerate(id_arrays) if vocabulary == name]
        flat = [jnp.zeros(1, jnp.int32)]  # the OOV row comes along, and comes first
        for i in places:
            _, ids, real = id_arrays[i]
            num_rows = schema.vocabulary_by_name[name].num_rows
            flat.append(jnp.where(real, row_of(ids, num_rows), OOV_ID).ravel())
        rows[name], inverse = distinct_rows(jnp.concatenate(flat), fill=size)
        start = 1
        for i in places:
            shape, count = id_arrays[i][1].shape, id_arrays[i][1].size
            renumbered[i] = inverse[start : start + count].reshape(shape)
            start += count
    return rows, _with_ids(batch, schema, renumbered)


def _id_arrays(batch: Batch, schema: Schema) -> list[tuple[str, Array, Bool[Array, "B ..."]]]:
    """List vocabulary name, ids and which of them are real, for every id array of a batch."""
    arrays = []
    for feature in schema.sparse:
        values = batch.sparse[feature.name]
        arrays.append((feature.vocabulary, values.ids, _real(values.ids, values.lengths)))
    for name, events in batch.streams.items():
        for event_id in schema.stream_by_name[name].ids:
            ids = events.ids[event_id.name]
            arrays.append((event_id.vocabulary, ids, _real(ids, events.lengths)))
    return arrays


def _real(ids: Array, lengths: Int[Array, "B"]) -> Bool[Array, "B ..."]:
    real = jnp.arange(ids.shape[1]) < lengths[:, None]
    return real.reshape(*real.shape, *(1,) * (ids.ndim - 2))


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
