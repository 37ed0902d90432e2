"""Trains a run to its last step, or until it is asked to stop."""

import contextlib
import math
from collections.abc import Callable

from jax.experimental import multihost_utils

from kunlun_jax.data import Batch
from kunlun_jax.hosts.processes import is_first, several
from kunlun_jax.sharding import BatchShare
from kunlun_jax.training.diagnosis import diagnose, save_diagnosis
from kunlun_jax.training.loop import Trainer
from kunlun_jax.training.progressive import Progressive
from kunlun_jax.training.run import Run
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.workdir import open_writer


def run_loop(
    run: Run,
    state: TrainState,
    train_step: Callable[[TrainState, Batch], TrainState],
    *,
    deadline: float = math.inf,
    after_evaluation: Callable[[int], bool] = lambda step: False,
) -> tuple[TrainState, bool]:
    """Train to the last step; returns the state and whether the run is complete.

    Args:
        run: The run.
        state: Where to begin: what `run.resume_or_initialize` gave.
        train_step: What `run.train_step` gave.
        deadline: Reading of `time.monotonic` from which on it saves and stops early.
        after_evaluation: As of `Trainer`.

    Raises:
        NonFiniteError: If too many updates in a row were not finite.
    """
    most = run.config.data.max_eval_examples
    validation = run.data.eval_batches("validation", run.mesh, max_examples=most)
    start, track = int(state.step), run.tracker.write
    with contextlib.closing(open_writer(run.workdir, from_step=start, also=track)) as writer:
        trainer = Trainer(
            config=run.config,
            train_step=train_step,
            data=run.iterator,
            mesh=run.mesh,
            validation=validation,
            evaluator=run.evaluator,
            checkpoints=run.checkpoints,
            writer=writer,
            num_steps=run.num_steps,
            diagnose=lambda state: _diagnose(run, state),
            goodput=run.goodput,
            deadline=deadline,
            before_step=Progressive(run, writer).before,
            after_evaluation=after_evaluation,
        )
        state, complete = trainer.run(state)
    early = int(state.step) < run.num_steps and run.checkpoints.has_ended(run.config.training)
    if complete and early and is_first():
        print(
            f"ended at step {int(state.step)} of {run.num_steps}: no better validation NE in "
            f"{run.config.training.patience} evaluations",
            flush=True,
        )
    return state, complete


def _diagnose(run: Run, state: TrainState) -> str:
    """Replay the first of the batches that were skipped in a row, and keep it."""
    step = int(state.step) - int(state.guard.in_row) + 1
    batch = BatchShare(run.mesh, run.config.data.batch_size).put(run.train_batches[step - 1])
    found = diagnose(
        run.model,
        run.data.schema,
        state.params,
        state.tables,
        batch,
        task_weights=run.data.task_weights,
    )
    directory = run.workdir / "nonfinite" / f"step_{step}"
    whole = multihost_utils.process_allgather(batch, tiled=True) if several() else batch
    try:
        if is_first():
            save_diagnosis(directory, whole, found)
    except OSError as error:
        return f"{found} (the batch could not be saved: {error})"
    return f"{found} (the batch of step {step} is in {directory})"
