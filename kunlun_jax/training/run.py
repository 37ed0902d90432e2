"""One run: its data and model, put together with devices, checkpoints and records."""

import contextlib
import functools
import pathlib
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kunlun_jax.config import ConfigError, ExperimentConfig
from kunlun_jax.data import Batch, BatchSource, DatasetError, SchemaError, make_train_iterator
from kunlun_jax.data.opening import open_dataset
from kunlun_jax.flops import flops_by_module
from kunlun_jax.hosts.processes import ProcessError, is_first, several, together
from kunlun_jax.models.registry import create_model
from kunlun_jax.sharding import batch_sharding, check_divisible, make_mesh, replicated
from kunlun_jax.training.batches import RunData, open_data
from kunlun_jax.training.checkpoint import CheckpointError, Checkpoints
from kunlun_jax.training.checkpoint_reader import model_identity
from kunlun_jax.training.evaluation import Evaluator
from kunlun_jax.training.goodput import Goodput, measured_ceiling
from kunlun_jax.training.loop import NonFiniteError
from kunlun_jax.training.optimizer import OptimizerArguments
from kunlun_jax.training.run_data import keep_dataset
from kunlun_jax.training.step import (
    TrainState,
    create_train_state,
    make_eval_step,
    make_train_step,
    state_shapes,
)
from kunlun_jax.training.summary import data_summary, model_summary
from kunlun_jax.training.tracking import Tracker
from kunlun_jax.training.workdir import WorkdirError, keep_config

__all__ = ["USER_ERRORS", "Run", "fresh_state", "open_dataset", "open_run"]

USER_ERRORS = (
    CheckpointError,
    ConfigError,
    DatasetError,
    NonFiniteError,
    OSError,
    ProcessError,
    SchemaError,
    WorkdirError,
)
# Initialisation runs once, and its many random draws take longer to optimise than to run.
_FAST_COMPILATION = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
_LAST_SAVE_SECONDS = 30  # how long one process of several, which has failed, waits for its save


def open_run(
    config: ExperimentConfig,
    workdir: pathlib.Path,
    *,
    read_only: bool = False,
    dataset: str | None = None,
) -> "Run":
    """Open a run as train.py does, in one call.

    Args:
        config: The experiment.
        workdir: The working directory.
        read_only: Whether to write nothing, and to build no data set that is missing.
        dataset: As of `open_data`.

    Raises:
        WorkdirError: If the directory holds a run on another data set.
    """
    data = open_data(config, workdir, read_only=read_only, dataset=dataset)
    return Run(config, workdir, data, create_model(config, data.schema), read_only=read_only)


class Run(contextlib.AbstractContextManager):
    """A data set and a model, with what it takes to train and to measure one on the other.

    Attributes:
        config: The experiment.
        workdir: The working directory.
        data: The data.
        model: The model.
        read_only: Whether nothing is written.
        mesh: The devices.
        train_batches: This process's share of the training batches; element i is that of step
            i + 1.
        iterator: Walks through them; a checkpoint holds its position.
        num_steps: Steps of the whole run.
        evaluator: Computes predictions and metrics of a split.
        checkpoints: The run's checkpoints.
        tracker: Sends metrics to the services that the run names.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: pathlib.Path,
        data: RunData,
        model: nn.Module,
        *,
        read_only: bool = False,
    ) -> None:
        """Open the checkpoints; shapes before memory, nothing is trained yet.

        Args:
            config: The experiment.
            workdir: The working directory.
            data: Its data.
            model: The model.
            read_only: Whether to write nothing.

        Raises:
            ConfigError: If the configuration does not fit the devices or the data.
        """
        self.config, self.workdir, self.data, self.model = config, workdir, data, model
        self.read_only = read_only
        self._context = contextlib.ExitStack()
        self.mesh = make_mesh(config.mesh)
        check_divisible(config, self.mesh)
        self.train_batches = data.train_batches(self.mesh)
        self.num_steps = data.num_steps(self.train_batches)
        self.iterator = make_train_iterator(
            self.train_batches, num_threads=config.data.num_threads, prefetch=config.data.prefetch
        )
        self.evaluator = Evaluator(
            make_eval_step(model, probe=config.training.log_effective_rank),
            self.mesh,
            label_rates=data.label_rates,
            tasks=data.schema.labels,
            task_weights=data.task_weights,
        )
        self.checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep=config.training.keep_checkpoints,
            read_only=read_only,
            identity=_identity(config, data, self.train_batches, self.num_steps),
        )
        self.tracker = Tracker(config, workdir)

    def __enter__(self) -> "Run":
        """Make the mesh known to the layers."""
        self._context.enter_context(jax.set_mesh(self.mesh))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish pending saves, of which a failed one raises, and what is still to be sent."""
        self._context.callback(self.tracker.close, failed=error is not None)
        with self._context:
            if error is not None and several():
                # The other processes may be elsewhere, and a save that they take no part in never
                # finishes.
                finishing = threading.Thread(target=self.checkpoints.close, daemon=True)
                finishing.start()
                finishing.join(_LAST_SAVE_SECONDS)
            else:
                self.checkpoints.close()

    @functools.cached_property
    def state_shapes(self) -> TrainState:
        """Shapes of the state, and how it is split over the devices."""
        return state_shapes(
            self.model, self.config, self.data.batch_shapes, self.mesh, num_steps=self.num_steps
        )

    @property
    def state_shardings(self) -> TrainState:
        """How the state is split over the devices."""
        return jax.tree.map(lambda x: x.sharding, self.state_shapes)

    @functools.cached_property
    def goodput(self) -> Goodput:
        """What watches where the time goes, from the first time that it is asked for."""
        flops = flops_by_module(self.config.model, self.data.schema)
        return Goodput(
            flops_per_example=sum(flops.values()),
            ceiling=measured_ceiling(self.config.model.dtype),
        )

    def summary(self) -> str:
        """Return tables of parameters, FLOPs and padding, and what deserves a word."""
        tables = model_summary(self.config.model, self.data.schema, self.state_shapes)
        data = data_summary(self.data.dataset, self.data.max_lens, self.train_batches)
        return f"{tables}\n\n{data}"

    def resume_or_initialize(
        self, initialize: Callable[["Run"], TrainState] | None = None
    ) -> TrainState:
        """Return the state of the newest good checkpoint, or a fresh one; the batches follow.

        Args:
            initialize: Returns the initial state; by default `fresh_state`.

        Raises:
            CheckpointError: If there are checkpoints, but none that is good and of this run; or if
                the disk has no room for more.
            ConfigError: If the run has taken more steps than it should have.
        """
        state, damaged = self.checkpoints.restore_newest(self.state_shapes, self.iterator)
        _require_steps_ahead(self, state)
        if is_first():
            for line in damaged:
                print(f"warning: {line}", file=sys.stderr, flush=True)
        with together():
            if is_first():  # only now, when the checkpoints have shown that it is the same run
                keep_config(self.workdir, self.config)
                keep_dataset(self.workdir, self.data.dataset)
        if state is not None:
            print(f"resumed from step {int(state.step)} of {self.num_steps}", flush=True)
        if state is None or int(state.step) < self.num_steps:
            with together():
                self.checkpoints.require_room(self.state_shapes)
        return (initialize or fresh_state)(self) if state is None else state

    def train_step(self) -> Callable[[TrainState, Batch], TrainState]:
        """Return the step, to be compiled at its first call; it reuses the memory of the state.

        Runs that differ in nothing but `OptimizerArguments` run one and the same program.
        """
        return _train_step(self)


def _train_step(run: Run) -> Callable[[TrainState, Batch], TrainState]:
    everywhere = replicated(run.mesh)
    step = jax.jit(
        make_train_step(run.model, run.data.schema, run.config, num_steps=run.num_steps),
        donate_argnums=0,
        in_shardings=(run.state_shardings, batch_sharding(run.mesh), everywhere),
        out_shardings=run.state_shardings,
    )
    # On the devices of all processes once, rather than sent there at every step.
    settings = OptimizerArguments.of(run.config.optimizer)
    arguments = jax.jit(lambda: settings, out_shardings=everywhere)()
    return lambda state, batch: step(state, batch, arguments)


def _require_steps_ahead(run: Run, state: TrainState | None) -> None:
    """Refuse an end before the step that a run has reached."""
    if state is not None and int(state.step) > run.num_steps:
        raise ConfigError(
            f"config.data.num_epochs: expected at least the {int(state.step)} steps that the run "
            f"in {run.workdir} has taken, got {run.num_steps}"
        )


def _identity(
    config: ExperimentConfig, data: RunData, train_batches: BatchSource, num_steps: int
) -> dict[str, Any]:
    """Return what has to agree between two runs that share checkpoints."""
    weights = data.task_weights
    return {
        **model_identity(config, data.schema),
        # Left out where it says nothing: checkpoints of earlier versions have none.
        **({"task_weights": weights} if weights else {}),
        "pipeline": train_batches.fingerprint,
        # A constant schedule does not know where the run ends: that may change.
        **({"num_steps": num_steps} if config.optimizer.schedule != "constant" else {}),
    }


def fresh_state(run: Run) -> TrainState:
    """Return the initial state, on the devices as a restored one is: one compiled step for both.

    Args:
        run: The run.
    """

    def initialize() -> TrainState:
        batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), run.data.batch_shapes)
        return create_train_state(run.model, run.config, batch, num_steps=run.num_steps)

    return jax.jit(
        initialize, out_shardings=run.state_shardings, compiler_options=_FAST_COMPILATION
    )()
