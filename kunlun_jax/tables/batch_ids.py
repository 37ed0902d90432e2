"""The ids of a batch: listed by vocabulary, counted, and renumbered to its distinct rows."""

# pyright: reportUnknownMemberType=false

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import OOV_ID, Schema
from kunlun_jax.shapes import Array, Bool, Int
from kunlun_jax.tables.layout import known_ids, row_of


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


def count_ids(batch: Batch, schema: Schema) -> dict[str, int]:
    """Return how many ids a batch has by vocabulary, padding included; from shapes alone."""
    counts: dict[str, int] = {}
    for vocabulary, ids, _ in _id_arrays(batch, schema):
        counts[vocabulary] = counts.get(vocabulary, 0) + ids.size
    return counts


def renumber(
    stored: Mapping[str, int], batch: Batch, schema: Schema
) -> tuple[dict[str, Int[Array, "U"]], Batch]:
    """Return the distinct rows that a batch uses, and the batch with ids that count in them.

    Args:
        stored: Rows of the tables in question, by vocabulary.
        batch: The batch.
        schema: Its schema.

    Returns:
        By vocabulary the rows, as `distinct_rows` returns them, the OOV row's index first; and the
        batch. Ids of other vocabularies stay as they are.
    """
    id_arrays = _id_arrays(batch, schema)
    renumbered: list[Array] = [ids for _, ids, _ in id_arrays]
    rows: dict[str, Array] = {}
    for name, size in stored.items():
        own = [i for i, (vocabulary, _, _) in enumerate(id_arrays) if vocabulary == name]
        flat = [jnp.zeros(1, jnp.int32)]  # the OOV row comes along, and comes first
        for i in own:
            _, ids, real = id_arrays[i]
            num_rows = schema.vocabulary_by_name[name].num_rows
            flat.append(jnp.where(real, row_of(ids, num_rows), OOV_ID).ravel())
        rows[name], inverse = distinct_rows(jnp.concatenate(flat), fill=size)
        start = 1
        for i in own:
            shape, count = id_arrays[i][1].shape, id_arrays[i][1].size
            renumbered[i] = inverse[start : start + count].reshape(shape)
            start += count
    return rows, _with_ids(batch, schema, renumbered)


def with_shard_axis(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return what belongs to one shard of a batch with a leading axis of 1, the shards'."""
    return {name: array[None] for name, array in arrays.items()}


def distinct_rows(ids: Int[Array, "U"], *, fill: int) -> tuple[Int[Array, "U"], Int[Array, "U"]]:
    """Return the distinct ids in ascending order, and for every id its index among them.

    Args:
        ids: Numbers of rows, at least one.
        fill: What the first result is filled up with, to as many as there are ids.
    """
    ordered, origin = jax.lax.sort((ids, jnp.arange(ids.size, dtype=jnp.int32)), num_keys=1)
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    index = jnp.cumsum(is_new, dtype=jnp.int32)
    distinct = jnp.full_like(ids, fill).at[index].set(ordered, mode="promise_in_bounds")
    inverse = (
        jnp.zeros_like(ids).at[origin].set(index, mode="promise_in_bounds", unique_indices=True)
    )
    return distinct, inverse


def _id_arrays(batch: Batch, schema: Schema) -> list[tuple[str, Array, Bool[Array, "B ..."]]]:
    """List vocabulary name, ids and which of them are real, for every id array of a batch."""
    arrays: list[tuple[str, Array, Array]] = []
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
        f.name: dataclasses.replace(batch.sparse[f.name], ids=next(remaining))
        for f in schema.sparse
    }
    streams = {
        name: dataclasses.replace(
            events, ids={f.name: next(remaining) for f in schema.stream_by_name[name].ids}
        )
        for name, events in batch.streams.items()
    }
    return dataclasses.replace(batch, sparse=sparse, streams=streams)
