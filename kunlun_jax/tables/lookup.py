"""The one function that indexes an embedding table."""

from kunlun_jax.shapes import Array, Float, Int
from kunlun_jax.sharding import on_each_shard
from kunlun_jax.tables.layout import row_of


def lookup(
    table: Float[Array, "... rows W"], ids: Int[Array, "*ids"], num_rows: int
) -> Float[Array, "*ids W"]:
    """Return the rows of a table; any id without a row gives the OOV row.

    The only place that indexes a table: `jnp.take` alone would give NaN for an id that is too
    large and the last row for -1.

    Args:
        table: [rows, W], as it is stored; or [shards, rows, W], the rows that each shard of the
            batch uses, with ids that count in them (both from `TableState.gather`).
        ids: Any integers.
        num_rows: Rows of the vocabulary, the OOV row included.
    """
    if table.ndim == 2:
        return table.at[row_of(ids, num_rows)].get(mode="promise_in_bounds")
    rest = (None,) * (ids.ndim - 1)

    def of_shard(table: Array, ids: Array) -> Array:
        return table[0].at[ids].get(mode="promise_in_bounds")

    return on_each_shard(
        of_shard,
        {"table": (table, ("batch", None, None)), "ids": (ids, ("batch", *rest))},
        ("batch", *rest, None),
    )
