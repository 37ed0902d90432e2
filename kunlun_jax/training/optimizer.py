"""AdamW for dense parameters, row-wise Adagrad for embedding tables."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from kunlun_jax.config import OptimizerConfig
from kunlun_jax.layers.table_exchange import push
from kunlun_jax.shapes import Array, Bool, Float, Int, Shaped
from kunlun_jax.sharding import AXES, EXAMPLES, TABLE, on_every_device, speaks_for_its_examples
from kunlun_jax.training.rounding import round_stochastically

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
    table: Float[Array, "rows W"],
    accumulator: Float[Array, "rows"],
    gradient: Float[Array, "M W"],
    rows: Int[Array, "M"] | None,
    learning_rate: Float[Array, ""],
    *,
    take: Bool[Array, ""] | bool = True,
    key: Shaped[Array, ""] | None = None,
    first_row: Int[Array, ""] | int = 0,
) -> tuple[Array, Array]:
    """Take one step of row-wise Adagrad: one accumulator a row, fed the mean squared gradient.

        a_i <- a_i + mean_d(g_id^2),   w_i <- w_i - lr * g_i / sqrt(a_i)

    Only the rows named are read or written; a row with a zero gradient stays as it is. The sums are
    float32, and so is the step; a bfloat16 table is rounded stochastically (`rounding.py`).

    Args:
        table: Embedding table, float32 or bfloat16.
        accumulator: Sums of mean squared gradients.
        gradient: Gradient of the rows named, duplicates merged.
        rows: Which rows these are, each at most once; numbers past the end are dropped. None: all.
        learning_rate: Rate of this step.
        take: Whether to take it; if not, every bit stays, and still no other row is touched.
        key: How a bfloat16 table is rounded, by `rounding_key`.
        first_row: Number of the first row, where the table is a block of a larger one.

    Returns:
        The new table and accumulator.
    """
    assert (table.dtype == jnp.bfloat16) == (key is not None)
    squares = jnp.mean(jnp.square(gradient), axis=1)
    if rows is None:
        sums = accumulator + squares
        scale = learning_rate * jax.lax.rsqrt(sums + _TABLE_EPSILON)
        updated = table - scale[:, None] * gradient
        if key is not None:
            every = first_row + jnp.arange(table.shape[0], dtype=jnp.int32)
            updated = round_stochastically(updated, key, every)
        return jnp.where(take, updated, table), jnp.where(take, sums, accumulator)
    sums = accumulator.at[rows].get(mode="clip") + squares
    change = -(learning_rate * jax.lax.rsqrt(sums + _TABLE_EPSILON))[:, None] * gradient
    target = jnp.where(take, rows, table.shape[0])  # past the end, and so dropped
    options = {"mode": "drop", "unique_indices": False}
    if key is not None:
        updated = table.at[rows].get(mode="clip") + change
        updated = round_stochastically(updated, key, first_row + rows)
        table = table.at[target].set(updated, **options)
    else:
        table = table.at[target].add(change, **options)
    return table, accumulator.at[target].set(sums, **options)


def update_split_tables(
    states: dict[str, tuple[Array, Array]],
    gradients: dict[str, Array],
    rows: dict[str, Array],
    learning_rate: Float[Array, ""],
    *,
    take: Bool[Array, ""],
    keys: dict[str, Array],
) -> dict[str, tuple[Array, Array]]:
    """Take the step of `update_table` with tables whose rows are split over the mesh.

    Args:
        states: By table, the table, [rows, W], and its accumulator, [rows].
        gradients: By table, [shards, M, W], of the rows that each shard of the batch uses.
        rows: By table, [shards, M], which rows these are, in ascending order; numbers past the end
            are dropped.
        learning_rate: Rate of this step.
        take: Whether to take it.
        keys: By bfloat16 table, how it is rounded.

    Returns:
        The new tables and accumulators.
    """

    def update_own(states, gradients, rows, learning_rate, take, keys):
        device, devices = jax.lax.axis_index(AXES), jax.lax.axis_size(AXES)

        def update(name: str, state: tuple[Array, Array], rows: Array, gradient: Array):
            first, key = device * state[0].shape[0], keys.get(name)
            return update_table(
                *state, gradient, rows, learning_rate, take=take, key=key, first_row=first
            )

        ends = {name: devices * table.shape[0] for name, (table, _) in states.items()}
        speaks = speaks_for_its_examples()
        named = {name: jnp.where(speaks, r[0], ends[name]) for name, r in rows.items()}
        mine = {name: gradient[0] for name, gradient in gradients.items()}
        return (push(states, named, mine, AXES, update=update),)

    by_row, everywhere = TABLE[:1], ()
    run = on_every_device(
        update_own, (by_row, EXAMPLES, EXAMPLES, everywhere, everywhere, everywhere), (by_row,)
    )
    (updated,) = run(states, gradients, rows, learning_rate, take, keys)
    return updated
