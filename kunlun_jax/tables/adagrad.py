"""Row-wise Adagrad: one sum a row, and a step that touches the named rows alone."""

# pyright: reportUnknownMemberType=false

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Bool, Float, Int, Shaped
from kunlun_jax.tables.rounding import round_stochastically

_EPSILON = 1e-10

# By table; a state is the table itself and its sums.
Arrays = dict[str, Array]
States = dict[str, tuple[Array, Array]]


class TableStep(NamedTuple):
    """A step of the tables that were cut down to the rows of a batch.

    Attributes:
        states: By table, the table, [rows, W], and its sums, [rows].
        gradients: Of the rows that each shard of the batch uses, [shards, M, W].
        rows: Their indices, [shards, M]: ascending; those past the end are dropped.
        learning_rate: Rate of this step.
        take: Whether to take it.
        keys: By bfloat16 table, how it is rounded.
    """

    states: Mapping[str, tuple[Array, Array]]
    gradients: Mapping[str, Array]
    rows: Mapping[str, Array]
    learning_rate: Float[Array, ""]
    take: Bool[Array, ""]
    keys: Mapping[str, Shaped[Array, ""]]


def update_rows(
    table: Float[Array, "rows W"],
    sums: Float[Array, "rows"],
    gradient: Float[Array, "U W"],
    rows: Int[Array, "U"] | None,
    learning_rate: Float[Array, ""],
    *,
    take: Bool[Array, ""] | bool = True,
    key: Shaped[Array, ""] | None = None,
    first_row: Int[Array, ""] | int = 0,
) -> tuple[Array, Array]:
    """Take one step of row-wise Adagrad: one sum a row, fed the mean squared gradient.

        a_i <- a_i + mean_d(g_id^2),   w_i <- w_i - lr * g_i / sqrt(a_i)

    Only the rows named are read or written; a row with a zero gradient stays as it is. The sums are
    float32, and so is the step; a bfloat16 table is rounded stochastically (`rounding.py`).

    Args:
        table: Embedding table, float32 or bfloat16.
        sums: Sums of mean squared gradients.
        gradient: Gradient of the rows named, duplicates merged.
        rows: Which rows these are, each at most once; indices past the end are dropped. None: all.
        learning_rate: Rate of this step.
        take: Whether to take it; if not, every bit stays, and still no other row is touched.
        key: How a bfloat16 table is rounded, by `rounding_key`.
        first_row: Number of the first row, where the table is a block of a larger one.

    Returns:
        The new table and sums.

    Examples:
        The mean square of (3, 4) is 12.5, so that the sum becomes 25; a step is 1.25 / 5 of (3, 4).

        >>> table, sums = jnp.zeros((4, 2)), jnp.full(4, 12.5)
        >>> gradient, rows = jnp.asarray([[3.0, 4.0]]), jnp.asarray([2])
        >>> table, sums = update_rows(table, sums, gradient, rows, jnp.float32(1.25))
        >>> table[2].tolist(), sums.tolist(), bool(jnp.any(table[:2]))
        ([-0.75, -1.0], [12.5, 12.5, 25.0, 12.5], False)

    References:
        Duchi et al., Adaptive Subgradient Methods, JMLR 12, 2011; one sum a row as in the embedding
        tables of DLRM.
    """
    assert (table.dtype == jnp.bfloat16) == (key is not None)
    squares = jnp.mean(jnp.square(gradient), axis=1)
    if rows is None:
        new_sums = sums + squares
        scale = learning_rate * jax.lax.rsqrt(new_sums + _EPSILON)
        updated = table - scale[:, None] * gradient
        if key is not None:
            every = first_row + jnp.arange(table.shape[0], dtype=jnp.int32)
            updated = round_stochastically(updated, key, every)
        return jnp.where(take, updated, table), jnp.where(take, new_sums, sums)
    new_sums = sums.at[rows].get(mode="clip") + squares
    change = -(learning_rate * jax.lax.rsqrt(new_sums + _EPSILON))[:, None] * gradient
    target = jnp.where(take, rows, table.shape[0])  # past the end, and so dropped
    if key is not None:
        updated = table.at[rows].get(mode="clip") + change
        updated = round_stochastically(updated, key, first_row + rows)
        table = table.at[target].set(updated, mode="drop")
    else:
        table = table.at[target].add(change, mode="drop")
    return table, sums.at[target].set(new_sums, mode="drop")
