"""What a run has reached: predictions and metrics of its splits, and the best checkpoint's report.

Nothing here trains; an audit and a comparison of runs use the same functions.
"""

import contextlib
from collections.abc import Callable

from kunlun_jax.data import Batch, make_train_iterator
from kunlun_jax.hosts.processes import together
from kunlun_jax.metrics.grouped_auc import UserScores
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.sharding import BatchShare
from kunlun_jax.training.checkpoint import CheckpointError, DamagedCheckpointError
from kunlun_jax.training.run import Run
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.summary import result_summary
from kunlun_jax.training.workdir import BEST_STEP, open_writer

_PREFIXES = {"validation": "val", "test": "test"}


def restore_best(run: Run, like: TrainState | None = None) -> TrainState:
    """Return the state of the best checkpoint of a finished run.

    Args:
        run: The run.
        like: Any state of the run, for shapes, where there is one at hand.

    Raises:
        CheckpointError: If the run has not reached its last step.
        DamagedCheckpointError: If the best checkpoint is lost; the next call takes another.
    """
    checkpoints = run.checkpoints
    checkpoints.wait()
    latest, best = checkpoints.latest_step, checkpoints.best_step
    ended = latest == run.num_steps or checkpoints.has_ended(run.config.training)
    if best is None and ended:
        raise CheckpointError(
            f"{run.workdir}: expected a checkpoint whose validation NE is a number, got none"
        )
    if best is None or not ended:
        raise CheckpointError(
            f"{run.workdir}: expected a finished run, got step {latest or 0} of "
            f"{run.num_steps}; train.py continues it"
        )
    try:
        return checkpoints.restore(best, run.state_shapes if like is None else like)
    except DamagedCheckpointError as error:
        then = "train.py sets it aside and reports the best one that is left"
        if not run.read_only:
            kept = checkpoints.set_aside(best)
            then = f"{kept}; the same command reports the best one that is left"
        raise DamagedCheckpointError(f"the best checkpoint is lost: {error}; {then}") from error


def predict(
    run: Run,
    state: TrainState,
    split: str,
    *,
    perturb: Callable[[Batch, int], Batch] | None = None,
    max_examples: int = 0,
) -> Scores:
    """Return the predictions of a state for a split, in the order of the split.

    Args:
        run: The run.
        state: Parameters and tables.
        split: "validation" or "test".
        perturb: (batch, its index) -> the batch that the model sees instead; None: itself.
        max_examples: Only so many examples, drawn by config.data.seed; 0: all.
    """
    source = run.data.eval_batches(split, run.mesh, max_examples=max_examples)
    batches = make_train_iterator(source, num_threads=1, prefetch=2)
    if perturb is not None:
        batches = (perturb(batch, index) for index, batch in enumerate(batches))
    share = BatchShare(run.mesh, source.batch_size)
    scores = run.evaluator.scores(state.params, state.tables, map(share.put, batches))
    source.confirm()
    return scores


def evaluate(run: Run, state: TrainState, split: str) -> tuple[dict[str, float], Scores]:
    """Return the metrics of all of a split, and the predictions that they were made from.

    Args:
        run: The run.
        state: Parameters and tables.
        split: "validation" or "test".
    """
    collected = UserScores()
    source = run.data.eval_batches(split, run.mesh)
    metrics = run.evaluator.evaluate(state.params, state.tables, source, scores=collected)
    return metrics, collected.scores()


def report_best(
    run: Run, state: TrainState, *, predictions: dict[str, Scores] | None = None
) -> str:
    """Evaluate the best checkpoint on all of validation and test; record and return it.

    Args:
        run: The run, finished.
        state: Any state of the run, for shapes.
        predictions: Gets the predictions by split, for whoever wants to see more of them than
            metrics.

    Raises:
        CheckpointError: As `restore_best`.
    """
    state = restore_best(run, state)
    best, last = int(state.step), run.checkpoints.latest_step
    assert last is not None, "its best one was restored"
    results = {}
    for split in _PREFIXES:
        results[split], scores = evaluate(run, state, split)
        if predictions is not None:
            predictions[split] = scores
    record = {
        f"{_PREFIXES[split]}/{key}": value
        for split, values in results.items()
        for key, value in values.items()
    }
    with (
        contextlib.closing(
            open_writer(run.workdir, from_step=last, also=run.tracker.write)
        ) as writer,
        together(),
    ):
        writer.write(last, {BEST_STEP: float(best), **record})
    tasks, weights = run.data.schema.labels, run.data.task_weights
    return result_summary(best, results, tasks=tasks, task_weights=weights)
