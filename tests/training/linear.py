"""A linear model in place of Kunlun: the same state and steps, compiled in a moment.

state = linear.initial_state(num_tasks=2)
state = jax.jit(linear.train_step, donate_argnums=0)(state, batch)
"""

from typing import Any

import jax
import jax.numpy as jnp

from kunlun_jax.data import Batch
from kunlun_jax.metrics import binary_metrics
from kunlun_jax.training import guard
from kunlun_jax.training.step import TrainState, weighted_loss
from tests.data import toy

LEARNING_RATE = 0.05
STOP_AFTER_SKIPS = 3


def initial_state(num_tasks: int = len(toy.SCHEMA.labels)) -> TrainState:
    """Return the state of a fresh model for the toy data set."""
    rows = toy.SCHEMA.vocabulary_by_name["item"].num_rows
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"kernel": jnp.zeros((len(toy.SCHEMA.dense), num_tasks)), "bias": jnp.zeros(1)},
        tables={"item": jnp.zeros((rows, num_tasks))},
        opt_state=(),
        accumulators={"item": jnp.zeros(rows)},
        metrics=binary_metrics.init(num_tasks),
        out_of_vocabulary=jnp.zeros(2, jnp.int32),
        gradient_norm=jnp.zeros(()),
        guard=guard.init(),
    )
    return jax.device_put(state, jax.devices()[0])


def logits(params: Any, tables: Any, batch: Batch) -> jax.Array:
    """Return one logit per example and task."""
    scores = jnp.sum(batch.dense[:, :, None] * params["kernel"], axis=1)
    return scores + params["bias"] + tables["item"][batch.sparse["item"].ids[:, 0]]


def train_step(state: TrainState, batch: Batch) -> TrainState:
    """Take a step of gradient descent."""

    def loss(params: Any, tables: Any) -> tuple[jax.Array, jax.Array]:
        values = logits(params, tables, batch)
        return weighted_loss(values, batch), values

    (value, values), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
        state.params, state.tables
    )
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradients)))
    judged, take, gave_up = guard.judge(state.guard, (value, norm), stop_after=STOP_AFTER_SKIPS)
    old = (state.params, state.tables)
    new = jax.tree.map(lambda value, gradient: value - LEARNING_RATE * gradient, old, gradients)
    params, tables = guard.choose(take, new, old)
    seen = jnp.asarray([0, batch.weights.size], jnp.int32)
    return TrainState(
        step=jnp.where(gave_up, state.step, state.step + 1),
        params=params,
        tables=tables,
        opt_state=(),
        accumulators=state.accumulators,
        metrics=binary_metrics.update(
            state.metrics, logits=values, labels=batch.labels, weights=batch.weights
        ),
        out_of_vocabulary=state.out_of_vocabulary + seen,
        gradient_norm=norm,
        guard=judged,
    )


def eval_step(params: Any, tables: Any, state: binary_metrics.MetricState, batch: Batch) -> Any:
    """Return the metrics with the batch added, its logits, and no moments."""
    values = logits(params, tables, batch)
    state = binary_metrics.update(state, logits=values, labels=batch.labels, weights=batch.weights)
    return state, values, {}
