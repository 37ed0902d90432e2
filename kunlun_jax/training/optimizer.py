"""AdamW for dense parameters, row-wise Adagrad for embedding tables."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from kunlun_jax.config import OptimizerConfig
from kunlun_jax.layers.table_exchange import push
from kunlun_jax.shapes import Array, Bool, Float, Int
from kunlun_jax.sharding import AXES, EXAMPLES, TABLE, on_every_device, speaks_for_its_examples

_TABLE_EPSILON = 1e-10


def schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Return linear warm-up then cosine, as a factor of the peak learning rate in [0, 1].

    Args:
        config: Warm-up steps and final fraction.
        num_steps: Steps of the whole run.
    """
    warmup = min(config.warmup_steps, max(num_steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else 1.0,
        peak_value=1.0,
        warmup_steps=warmup,
        decay_steps=max(num_steps, warmup + 1),
        end_value=config.final_fraction,
    )


def dense_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Return clipping by global norm followed by AdamW; only kernels decay.

    Args:
        config: Rates and decays.
        num_steps: Steps of the whole run.
    """
    factor = schedule(config, num_steps)
    adamw = optax.adamw(
        lambda step: config.learning_rate * factor(step),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree_util.tree_map_with_path(_is_kernel, params),
    )
    if not config.clip_norm:
        return adamw
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def _is_kernel(path: tuple[Any, ...], parameter: Array) -> bool:
    """Return whether a parameter decays; stacked experts' biases have two axes, but do not."""
    return parameter.ndim >= 2 and not path[-1].key.endswith("bias")


def update_table(
    table: Float[Array, "rows D"],
    accumulator: Float[Array, "rows"],
    gradient: Float[Array, "M D"],
    rows: Int[Array, "M"] | None,
    learning_rate: Float[Array, ""],
    *,
    take: Bool[Array, ""] | bool = True,
) -> tuple[Array, Array]:
    """Take one step of row-wise Adagrad: one accumulator a row, fed the mean squared gradient.

        a_i <- a_i + mean_d(g_id^2),   w_i <- w_i - lr * g_i / sqrt(a_i)

    Only the rows named are read or written; a row with a zero gradient stays as it is.

    Args:
        table: Embedding table.
        accumulator: Sums of mean squared gradients.
        gradient: Gradient of the rows named, duplicates merged.
        rows: Which rows these are, each at most once; numbers past the end are dropped. None: all.
        learning_rate: Rate of this step.
        take: Whether to take it; if not, every bit stays, and still no other row is touched.

    Returns:
        The new table and accumulator.
    """
    squares = jnp.mean(jnp.square(gradient), axis=1)
    if rows is None:
        sums = accumulator + squares
        scale = learning_rate * jax.lax.rsqrt(sums + _TABLE_EPSILON)
        updated = table - scale[:, None] * gradient
        return jnp.where(take, updated, table), jnp.where(take, sums, accumulator)
    sums = accumulator.at[rows].get(mode="clip") + squares
    scale = learning_rate * jax.lax.rsqrt(sums + _TABLE_EPSILON)
    rows = jnp.where(take, rows, table.shape[0])  # past the end, and so dropped
    options = {"mode": "drop", "unique_indices": False}
    return (
        table.at[rows].add(-scale[:, None] * gradient, **options),
        accumulator.at[rows].set(sums, **options),
    )


def update_split_table(
    table: Float[Array, "rows D"],
    accumulator: Float[Array, "rows"],
    gradient: Float[Array, "shards M D"],
    rows: Int[Array, "shards M"],
    learning_rate: Float[Array, ""],
    *,
    take: Bool[Array, ""],
) -> tuple[Array, Array]:
    """Take the step of `update_table` with a table whose rows are split over the mesh.

    Args:
        table: Embedding table.
        accumulator: Sums of mean squared gradients.
        gradient: Gradient of the rows that each shard of the batch uses.
        rows: Which rows these are, in ascending order; numbers past the end are dropped.
        learning_rate: Rate of this step.
        take: Whether to take it.

    Returns:
        The new table and accumulator.
    """
    num_rows = table.shape[0]

    def update_own(state, gradient, rows, learning_rate, take):
        def update(state: tuple[Array, Array], rows: Array, gradient: Array):
            return update_table(*state, gradient, rows, learning_rate, take=take)

        named = jnp.where(speaks_for_its_examples(), rows[0], num_rows)
        return push(state, named, gradient[0], AXES, update=update)

    by_row, everywhere = TABLE[:1], ()
    run = on_every_device(
        update_own,
        (by_row, EXAMPLES, EXAMPLES, everywhere, everywhere),
        (by_row, by_row),
    )
    return run((table, accumulator), gradient, rows, learning_rate, take)
