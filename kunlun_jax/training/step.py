"""The training step and the evaluation step: pure functions of state and batch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.probe import PROBES
from kunlun_jax.metrics import binary_metrics
from kunlun_jax.metrics.binary_metrics import MetricState, binary_cross_entropy
from kunlun_jax.metrics.tasks import task_weights
from kunlun_jax.shapes import Array
from kunlun_jax.sharding import AnyMesh, replicated, shardings_of
from kunlun_jax.tables import TableState, count_out_of_vocabulary
from kunlun_jax.training import guard
from kunlun_jax.training.guard import GuardState
from kunlun_jax.training.optimizer import OptimizerArguments, dense_optimizer, schedule


# A pytree holds anything while jax maps over it (shapes, shardings), so it is not checked.
@no_type_check
@flax.struct.dataclass
class TrainState:
    """Everything that a step reads and writes; what a checkpoint holds.

    Attributes:
        step: Steps taken.
        params: Dense parameters.
        tables: Embedding tables by vocabulary, as they are stored.
        opt_state: State of the dense optimizer.
        accumulators: Row-wise Adagrad's sums, by vocabulary.
        metrics: Training metrics since the last line of the log.
        out_of_vocabulary: Ids on the OOV row, and all ids, since the last line of the log.
        gradient_norm: Global norm of the last step's dense gradient, before clipping.
        guard: How often an update was skipped because it was not finite.
    """

    step: Array
    params: dict[str, Any]
    tables: dict[str, Array]
    opt_state: Any
    accumulators: dict[str, Array]
    metrics: MetricState
    out_of_vocabulary: Array
    gradient_norm: Array
    guard: GuardState


def weighted_loss(
    logits: Array, batch: Batch, task_weights: Sequence[float] | None = None
) -> Array:
    """Return the weighted mean of all tasks' cross entropies (docs/model.md#task-and-metric).

        sum_i w_i (sum_l a_l BCE_il / sum_l a_l) / sum_i w_i;   0 for a batch of weight 0

    Args:
        logits: [B, L], log-odds.
        batch: Its labels [B, L] and weights w [B] are used.
        task_weights: a [L], >= 0 and not all 0; None: all the same. The logits of a task of
            weight 0 get no gradient, whatever they are.
    """
    labels, shares = batch.labels, None
    if task_weights is not None:
        trained = np.flatnonzero(task_weights)
        shares = np.asarray(task_weights, np.float32)[trained]
        logits, labels = logits[:, trained], labels[:, trained]
    losses = jnp.average(binary_cross_entropy(logits, labels), axis=1, weights=shares)
    weights = batch.weights.astype(jnp.float32)
    total = jnp.sum(weights)
    return jnp.sum(jnp.where(weights > 0, losses * weights, 0.0)) / jnp.where(total > 0, total, 1.0)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _initialize(model: nn.Module, seed: int, batch: Batch) -> Any:
    """Return the model's boxed variables; traced once for their shapes and for their values."""
    return model.init(jax.random.key(seed), batch)


def create_train_state(
    model: nn.Module, config: ExperimentConfig, batch: Batch, *, num_steps: int
) -> TrainState:
    """Initialise parameters, tables and optimizer; a pure function of the seed.

    Args:
        model: The model.
        config: Seed and optimizer.
        batch: Any batch, for its shapes.
        num_steps: Steps of the whole run.
    """
    variables = nn.meta.unbox(_initialize(model, config.seed, batch))
    params, tables = variables["params"], variables["tables"]["embedding"]
    start, dtype = config.optimizer.table_initial_accumulator, config.optimizer.table_dtype
    tables = {name: table.astype(dtype) for name, table in tables.items()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        tables=tables,
        opt_state=dense_optimizer(config.optimizer, num_steps).init(params),
        accumulators={n: jnp.full(t.shape[0], start, jnp.float32) for n, t in tables.items()},
        metrics=binary_metrics.init(batch.labels.shape[1]),
        out_of_vocabulary=jnp.zeros(2, jnp.int32),
        gradient_norm=jnp.zeros(()),
        guard=guard.init(),
    )


def state_shapes(
    model: nn.Module, config: ExperimentConfig, batch: Batch, mesh: AnyMesh, *, num_steps: int
) -> TrainState:
    """Return the shapes of a training state and how it is split over a mesh.

    Optimizer state lies where its parameter does, a table's accumulator where the table's rows do,
    and everything else on every device.

    Args:
        model: The model.
        config: Seed and optimizer.
        batch: Shapes of a batch.
        mesh: The devices.
        num_steps: Steps of the whole run.
    """
    initialize = functools.partial(_initialize, model, config.seed)
    variables = shardings_of(jax.eval_shape(initialize, batch), mesh)
    params, tables = variables["params"], variables["tables"]["embedding"]
    state = jax.eval_shape(
        functools.partial(create_train_state, model, config, num_steps=num_steps), batch
    )
    everywhere = replicated(mesh)
    shardings = jax.tree.map(lambda _: everywhere, state).replace(
        params=params,
        tables=tables,
        accumulators={
            name: NamedSharding(mesh, PartitionSpec(*sharding.spec[:1]))
            for name, sharding in tables.items()
        },
        opt_state=optax.tree.map_params(
            dense_optimizer(config.optimizer, num_steps),
            lambda _, sharding: sharding,
            state.opt_state,
            params,
            transform_non_params=lambda _: everywhere,
        ),
    )
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        shardings,
    )


def apply_model(model: nn.Module, params: Any, tables: Any, batch: Batch) -> Array:
    """Return the logits of a model whose tables are passed beside its dense parameters."""
    logits = model.apply({"params": params, "tables": {"embedding": tables}}, batch)
    assert isinstance(logits, jax.Array)
    return logits


def make_train_step(
    model: nn.Module, schema: Schema, config: ExperimentConfig, *, num_steps: int
) -> Callable[..., TrainState]:
    """Return the pure function (state, batch[, arguments]) -> state of one step.

    Where the loss or a gradient is NaN or infinite, parameters, tables and optimizer keep every
    bit; the step counts all the same, because the data goes on.

    With `OptimizerArguments` as its third argument, the program does not hold these numbers, and
    runs that differ in them share what is compiled; without, they are those of the configuration.

    Args:
        model: The model.
        schema: The data set's schema.
        config: Optimizer, task weights, and when the guard gives up.
        num_steps: Steps of the whole run.
    """
    factor = schedule(config.optimizer, num_steps)
    shares = task_weights(config.training, schema.labels)

    def train_step(
        state: TrainState, batch: Batch, arguments: OptimizerArguments | None = None
    ) -> TrainState:
        given = arguments or OptimizerArguments.of(config.optimizer)
        optimizer = dense_optimizer(config.optimizer, num_steps, given)
        tables = TableState(state.tables, state.accumulators)
        small, local, touched = tables.gather(batch, schema)

        def loss_fn(params: Any, tables: Any) -> tuple[Array, Array]:
            logits = apply_model(model, params, tables, local)
            return weighted_loss(logits, batch, shares), logits

        gradient_fn = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
        (loss, logits), (gradients, table_gradients) = gradient_fn(state.params, small)
        norm = optax.tree.norm(gradients)
        judged, take, gave_up = guard.judge(
            state.guard,
            (loss, norm, optax.tree.norm(table_gradients)),
            stop_after=config.training.stop_after_skips,
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)

        rate = jnp.asarray(given.table_learning_rate * factor(state.step))
        tables = tables.update(
            touched, table_gradients, rate, take=take, seed=config.seed, step=state.step
        )
        return TrainState(
            step=jnp.where(gave_up, state.step, state.step + 1),
            params=guard.choose(take, params, state.params),
            tables=tables.rows,
            opt_state=guard.choose(take, opt_state, state.opt_state),
            accumulators=tables.sums,
            metrics=binary_metrics.update(
                state.metrics, logits=logits, labels=batch.labels, weights=batch.weights
            ),
            out_of_vocabulary=state.out_of_vocabulary
            + jnp.stack(count_out_of_vocabulary(batch, schema)),
            gradient_norm=norm,
            guard=judged,
        )

    return train_step


def make_eval_step(
    model: nn.Module, *, probe: bool = False
) -> Callable[[Any, Any, MetricState, Batch], tuple[MetricState, Array, dict[str, Array]]]:
    """Return the pure function (params, tables, metrics, batch) -> (metrics, logits, moments).

    Args:
        model: The model.
        probe: Whether the moments are recorded from which effective ranks follow; otherwise the
            dictionary stays empty.
    """

    def eval_step(params: Any, tables: Any, state: MetricState, batch: Batch):
        variables = {"params": params, "tables": {"embedding": tables}}
        output: Any = model.apply(variables, batch, mutable=[PROBES] if probe else [])
        logits, recorded = output
        state = binary_metrics.update(
            state, logits=logits, labels=batch.labels, weights=batch.weights
        )
        return state, logits, dict(recorded.get(PROBES, {}))

    return eval_step
