"""One run: everything a configuration stands for, put together in one place."""

import contextlib
import functools
import math
import pathlib
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import jax
import jax.numpy as jnp

from kunlun_jax.config import ConfigError, DataConfig, ExperimentConfig, to_mapping
from kunlun_jax.data import (
    Batch,
    BatchSource,
    Dataset,
    DatasetError,
    SchemaError,
    make_train_iterator,
)
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.build import open_or_build
from kunlun_jax.data.label_rates import training_rate
from kunlun_jax.data.sources import SOURCES
from kunlun_jax.hosts.processes import ProcessError, first_in_turn, is_first, several, together
from kunlun_jax.metrics.grouped_auc import UserScores
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.tasks import task_weights
from kunlun_jax.models.registry import create_model
from kunlun_jax.sharding import BatchShare, batch_sharding, check_divisible, make_mesh
from kunlun_jax.training.checkpoint import CheckpointError, Checkpoints, DamagedCheckpointError
from kunlun_jax.training.diagnosis import diagnose, save_diagnosis
from kunlun_jax.training.evaluation import Evaluator
from kunlun_jax.training.loop import NonFiniteError, Trainer
from kunlun_jax.training.run_data import find_dataset, keep_dataset, require_same_dataset
from kunlun_jax.training.step import (
    TrainState,
    create_train_state,
    make_eval_step,
    make_train_step,
    state_shapes,
)
from kunlun_jax.training.summary import cut_histories, model_summary, result_summary
from kunlun_jax.training.workdir import (
    BEST_STEP,
    MetricWriter,
    NoWriter,
    WorkdirError,
    keep_config,
)

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


def open_dataset(config: DataConfig) -> Dataset:
    """Open the data set that a configuration names; build it first where it is missing.

    Args:
        config: Source, its options, and the directory.

    Raises:
        ConfigError: On an unknown source or options it does not have.
        DatasetError: If the directory holds something else.
    """
    if config.source not in SOURCES:
        raise ConfigError(
            f"config.data.source: expected one of {sorted(SOURCES)}, got {config.source!r}"
        )
    try:
        options = SOURCES[config.source].make_options(dict(config.options))
    except ValueError as error:
        raise ConfigError(f"config.data.options: {error}") from error
    try:
        return open_or_build(config.source, options, config.directory)
    except ValueError as error:  # files that are not what the source expects
        raise DatasetError(str(error)) from error


def _label_rates(dataset: Dataset) -> list[float]:
    """Return the weighted mean training label of every task; NE is relative to their entropy."""
    train, place = dataset.label_rates["train"], dataset.directory
    rates = [training_rate(train, task, place) for task in dataset.schema.labels]
    for split in ("validation", "test"):
        if None in dataset.label_rates[split].values():
            raise DatasetError(
                f"{place}: split {split!r}: expected examples with a weight above 0, got none of "
                f"{len(dataset.splits[split])}; without any, NE is not defined"
            )
    return rates


class Run(contextlib.AbstractContextManager):
    """Data, model, step functions, checkpoints and records of one run.

    Attributes:
        config: The experiment.
        dataset: The data set.
        label_rates: Weighted mean training label of every task.
        task_weights: Weight of every task in the loss; None: all the same.
        num_steps: Steps of the whole run.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: pathlib.Path,
        *,
        read_only: bool = False,
        dataset: str | None = None,
    ) -> None:
        """Open the data and the checkpoints; shapes before memory, nothing is trained yet.

        Args:
            config: The experiment.
            workdir: The working directory.
            read_only: Whether to write nothing, and to build no data set that is missing.
            dataset: Where the data set of a run that is only read lies; by default where
                `find_dataset` finds it.

        Raises:
            WorkdirError: If the directory holds a run on another data set.
        """
        self.config, self._workdir, self._read_only = config, workdir, read_only
        self._context = contextlib.ExitStack()
        data = config.data
        if read_only:
            self.dataset = Dataset.open(find_dataset(workdir, data.directory, dataset))
        else:
            self.dataset = first_in_turn(lambda: open_dataset(data))
        require_same_dataset(workdir, self.dataset)
        schema = self.dataset.schema
        self.label_rates = _label_rates(self.dataset)
        self.task_weights = task_weights(config.training, schema.labels)
        self._mesh = make_mesh(config.mesh)
        check_divisible(config, self._mesh)
        self._model = create_model(config, schema)
        self._source = self._batches("train", data.batch_size, data.max_train_examples)
        self.num_steps = max(
            1, round(data.num_epochs * self._source.num_examples / data.batch_size)
        )
        if self.num_steps >= 2**31:  # the state counts them in 32 bits
            raise ConfigError(
                f"config.data.num_epochs: expected < 2^31 steps, got {self.num_steps}"
            )
        self._iterator = make_train_iterator(
            self._source, num_threads=data.num_threads, prefetch=data.prefetch
        )
        self._evaluator = Evaluator(
            make_eval_step(self._model, probe=config.training.log_effective_rank),
            self._mesh,
            label_rates=self.label_rates,
            tasks=schema.labels,
            task_weights=self.task_weights,
        )
        resolved = to_mapping(config)
        self._checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep=config.training.keep_checkpoints,
            read_only=read_only,
            identity={
                "config": {key: resolved[key] for key in ("model", "optimizer", "seed")},
                # Left out where it says nothing: checkpoints of earlier versions have none.
                **({"task_weights": self.task_weights} if self.task_weights else {}),
                "schema": schema.to_json(),
                "pipeline": self._source.fingerprint,
                "num_steps": self.num_steps,
            },
        )

    def __enter__(self) -> "Run":
        """Make the mesh known to the layers."""
        self._context.enter_context(jax.set_mesh(self._mesh))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish pending saves; a failed one raises."""
        with self._context:
            if error is not None and several():
                # The others may be elsewhere: what they have no part in would never be finished.
                finishing = threading.Thread(target=self._checkpoints.close, daemon=True)
                finishing.start()
                finishing.join(_LAST_SAVE_SECONDS)
            else:
                self._checkpoints.close()

    def _batches(
        self, split: str, batch_size: int, max_examples: int, *, whole: bool = False
    ) -> BatchSource:
        """Return the batches of a split: this process's share of each, or each whole."""
        try:
            source = BatchSource(
                self.dataset,
                split=split,
                batch_size=batch_size,
                max_lens=self._max_lens,
                shuffle=split == "train",
                seed=self.config.data.seed,
                max_examples=max_examples or None,
                indices=None if whole else BatchShare(self._mesh, batch_size).indices,
            )
        except ValueError as error:
            raise ConfigError(f"config.data: {error}") from error
        if not source.weight:
            raise ConfigError(
                f"config.data: split {split!r}: expected examples with a weight above 0, got none "
                f"among the {source.num_examples} that seed {self.config.data.seed} draws of it"
            )
        return source

    @property
    def _max_lens(self) -> dict[str, int]:
        return {stream.name: stream.max_len for stream in self.config.model.streams}

    @property
    def _batch_shapes(self) -> Batch:
        return batch_shapes(self.dataset.schema, self._max_lens, self.config.data.batch_size)

    def _initial_state(self) -> TrainState:
        batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._batch_shapes)
        return create_train_state(self._model, self.config, batch, num_steps=self.num_steps)

    @functools.cached_property
    def _target(self) -> TrainState:
        """Shapes of the state, and where it goes."""
        return state_shapes(
            self._model, self.config, self._batch_shapes, self._mesh, num_steps=self.num_steps
        )

    @property
    def _shardings(self) -> TrainState:
        return jax.tree.map(lambda x: x.sharding, self._target)

    def summary(self) -> str:
        """Return tables of parameters and FLOPs by module and stream, and what deserves a word."""
        tables = model_summary(self.config.model, self.dataset.schema, self._target)
        return "\n\n".join([tables, *cut_histories(self.dataset, self._max_lens)])

    def resume_or_initialize(self) -> TrainState:
        """Return the state of the newest good checkpoint, or a fresh one; the iterator follows.

        Raises:
            CheckpointError: If there are checkpoints, but none that is good and of this run; or if
                the disk has no room for more.
        """
        target = self._target
        state, damaged = self._checkpoints.restore_newest(target, self._iterator)
        if is_first():
            for line in damaged:
                print(f"warning: {line}", file=sys.stderr, flush=True)
        with together():
            if is_first():  # not before: the checkpoints have said that it is the same run
                keep_config(self._workdir, self.config)
                keep_dataset(self._workdir, self.dataset)
        if state is not None:
            print(f"resumed from step {int(state.step)} of {self.num_steps}", flush=True)
        if state is None or int(state.step) < self.num_steps:
            with together():
                self._checkpoints.require_room(target)
        if state is None:
            # Placed as a restored state is: one compilation of the step for both.
            initialize = jax.jit(
                self._initial_state,
                out_shardings=self._shardings,
                compiler_options=_FAST_COMPILATION,
            )
            state = initialize()
        return state

    def train(self, state: TrainState, *, deadline: float = math.inf) -> tuple[TrainState, bool]:
        """Train to the last step; returns the state and whether the run is complete.

        Args:
            state: Where to begin.
            deadline: Reading of `time.monotonic` from which on it saves and stops early.
        """
        data = self.config.data
        validation = self._batches("validation", data.eval_batch_size, data.max_eval_examples)
        writer = self._writer(int(state.step))
        step = make_train_step(
            self._model, self.dataset.schema, self.config, num_steps=self.num_steps
        )
        trainer = Trainer(
            config=self.config,
            train_step=jax.jit(
                step,
                donate_argnums=0,
                in_shardings=(self._shardings, batch_sharding(self._mesh)),
                out_shardings=self._shardings,
            ),
            data=self._iterator,
            mesh=self._mesh,
            validation=validation,
            evaluator=self._evaluator,
            checkpoints=self._checkpoints,
            writer=writer,
            num_steps=self.num_steps,
            diagnose=self._diagnose,
            deadline=deadline,
        )
        with contextlib.closing(writer):
            return trainer.run(state)

    def _writer(self, from_step: int) -> MetricWriter | NoWriter:
        with together():
            return MetricWriter(self._workdir, from_step=from_step) if is_first() else NoWriter()

    def _diagnose(self, state: TrainState) -> str:
        """Replay the first of the batches that were skipped in a row, and keep it."""
        step = int(state.step) - int(state.guard.in_row) + 1
        data = self.config.data
        share = BatchShare(self._mesh, data.batch_size)
        batch = share.put(self._source[step - 1])  # the source's elements are the batches, from 0
        found = diagnose(
            self._model,
            self.dataset.schema,
            state.params,
            state.tables,
            batch,
            task_weights=self.task_weights,
        )
        directory = self._workdir / "nonfinite" / f"step_{step}"
        try:
            if is_first():
                whole = self._batches("train", data.batch_size, data.max_train_examples, whole=True)
                save_diagnosis(directory, whole[step - 1], found)
        except OSError as error:
            return f"{found} (the batch could not be saved: {error})"
        return f"{found} (the batch of step {step} is in {directory})"

    def restore_best(self, like: TrainState | None = None) -> TrainState:
        """Return the state of the best checkpoint of a finished run.

        Args:
            like: Any state of the run, for shapes, where there is one at hand.

        Raises:
            CheckpointError: If the run has not reached its last step.
            DamagedCheckpointError: If the best checkpoint is lost; the next call takes another.
        """
        self._checkpoints.wait()
        latest, best = self._checkpoints.latest_step, self._checkpoints.best_step
        if best is None and latest == self.num_steps:
            raise CheckpointError(
                f"{self._workdir}: expected a checkpoint whose validation NE is a number, got none"
            )
        if best is None or latest is None or latest < self.num_steps:
            raise CheckpointError(
                f"{self._workdir}: expected a finished run, got step {latest or 0} of "
                f"{self.num_steps}; train.py continues it"
            )
        try:
            return self._checkpoints.restore(best, like or self._target)
        except DamagedCheckpointError as error:
            then = "train.py sets it aside and reports the best one that is left"
            if not self._read_only:
                kept = self._checkpoints.set_aside(best)
                then = f"{kept}; the same command reports the best one that is left"
            raise DamagedCheckpointError(f"the best checkpoint is lost: {error}; {then}") from error

    def scores(
        self,
        state: TrainState,
        split: str,
        *,
        perturb: Callable[[Batch, int], Batch] | None = None,
        max_examples: int = 0,
    ) -> Scores:
        """Return the predictions of a state for a split, in the order of the split.

        Args:
            state: Parameters and tables.
            split: "validation" or "test".
            perturb: (batch, its index) -> the batch that the model sees instead; None: itself.
            max_examples: Only so many examples, drawn by config.data.seed; 0: all.
        """
        assert split != "train", "the training batches have no end"
        source = self._batches(split, self.config.data.eval_batch_size, max_examples)
        batches = make_train_iterator(source, num_threads=1, prefetch=2)
        if perturb is not None:
            batches = (perturb(batch, index) for index, batch in enumerate(batches))
        share = BatchShare(self._mesh, source.batch_size)
        return self._evaluator.scores(state.params, state.tables, map(share.put, batches))

    def evaluate(self, state: TrainState, split: str) -> tuple[dict[str, float], Scores]:
        """Return the metrics of all of a split, and the predictions that they were made from.

        Args:
            state: Parameters and tables.
            split: "validation" or "test".
        """
        collected = UserScores()
        source = self._batches(split, self.config.data.eval_batch_size, 0)
        metrics = self._evaluator.evaluate(state.params, state.tables, source, scores=collected)
        return metrics, collected.scores()

    def report_best(self, state: TrainState) -> str:
        """Evaluate the best checkpoint on all of validation and test; record and return it.

        Args:
            state: Any state of the run, for shapes.

        Raises:
            CheckpointError: As `restore_best`.
        """
        state = self.restore_best(state)
        best = int(state.step)
        results = {split: self.evaluate(state, split)[0] for split in ("validation", "test")}
        names = {"validation": "val", "test": "test"}
        record = {
            f"{names[split]}/{key}": value
            for split, values in results.items()
            for key, value in values.items()
        }
        with contextlib.closing(self._writer(self.num_steps)) as writer, together():
            writer.write(self.num_steps, {BEST_STEP: float(best), **record})
        tasks = self.dataset.schema.labels
        return result_summary(best, results, tasks=tasks, task_weights=self.task_weights)
