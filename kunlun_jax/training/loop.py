"""The training loop: step, log, evaluate, checkpoint, and stop where asked."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable

import grain
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from tqdm import tqdm

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data.reading.pipeline import BatchSource
from kunlun_jax.hosts.processes import is_first
from kunlun_jax.hosts.stopping import Agreement, StopSignal
from kunlun_jax.metrics.tasks import by_task, mean_over_tasks
from kunlun_jax.sharding import BatchShare
from kunlun_jax.training import guard
from kunlun_jax.training.checkpoint import Checkpoints
from kunlun_jax.training.evaluation import Evaluator
from kunlun_jax.training.goodput import Goodput
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.workdir import MetricWriter, NoWriter


class NonFiniteError(RuntimeError):
    """Too many updates in a row had a loss or a gradient that is NaN or infinite."""


@dataclasses.dataclass
class Trainer:
    """What the loop works with.

    Attributes:
        config: The experiment.
        train_step: Jitted (state, batch) -> state.
        data: Iterator over this process's share of training batches.
        mesh: The devices.
        validation: Validation batches, in order.
        evaluator: Computes metrics of a split.
        checkpoints: Saves and restores.
        writer: Records metrics.
        num_steps: Steps of the whole run.
        diagnose: Finds out why updates were not finite, from the state in which the guard gave up;
            returns a clause for the error message.
        goodput: Watches where the time goes.
        deadline: Reading of `time.monotonic` from which on the run saves and stops, as on a signal.
        before_step: Called with the number of a step and the state before it; says whether it has
            evaluated anything.
        after_evaluation: Called with the number of a step that was evaluated, once that is recorded
            and its save has begun; says whether the run ends there. Of several processes, all say
            the same.
    """

    config: ExperimentConfig
    train_step: Callable[..., TrainState]
    data: grain.DatasetIterator
    mesh: Mesh
    validation: BatchSource
    evaluator: Evaluator
    checkpoints: Checkpoints
    writer: MetricWriter | NoWriter
    num_steps: int
    diagnose: Callable[[TrainState], str]
    goodput: Goodput
    deadline: float = math.inf
    before_step: Callable[[int, TrainState], bool] = lambda step, state: False
    after_evaluation: Callable[[int], bool] = lambda step: False

    def run(self, state: TrainState) -> tuple[TrainState, bool]:
        """Train from the state's step to the last one.

        Args:
            state: Where to begin, the iterator standing at the same step.

        Returns:
            The final state, and whether the run is complete, by its steps, its patience or
            `after_evaluation` (False: stopped by a signal or at the deadline, and wholly saved).

        Raises:
            NonFiniteError: If too many updates in a row were not finite; the checkpoints before
                stay.
        """
        cadence = self.config.training
        goodput, start = self.goodput, int(state.step)
        if start and self.checkpoints.has_ended(cadence):
            return state, True
        batch_size = self.config.data.batch_size
        share, agreement = BatchShare(self.mesh, batch_size), Agreement(self.mesh)
        with _bar(start, self.num_steps, batch_size) as bar, StopSignal() as stop:
            logged_step = start
            for step in range(start + 1, self.num_steps + 1):
                with goodput.spending("evaluation"):
                    if self.before_step(step, state):
                        goodput.begin_lap()
                        logged_step = step - 1  # a lap's time and its examples begin together
                with goodput.spending("input"):
                    batch = share.put(next(self.data))
                first = step == start + 1
                with goodput.spending("compilation") if first else contextlib.nullcontext():
                    state = self.train_step(state, batch)
                bar.update(batch_size)
                last = step == self.num_steps
                if last or step % cadence.log_every == 0:
                    # Steps are asked for ahead of the devices; a lap is of those that were taken.
                    jax.block_until_ready(state)
                    rates = goodput.lap((step - logged_step) * batch_size)
                    logged_step = step
                    state, line = self._log(state, step, rates)
                    bar.set_postfix(line)
                # Asked once a step, so that a run that stops at this step has saved at it.
                wish = stop.received or time.monotonic() >= self.deadline
                stopping = agreement.reached(wish)
                if last or step % cadence.eval_every == 0:
                    self._require_going_on(state)
                    with goodput.spending("evaluation"):
                        metrics = self._validate(state, step)
                    with goodput.spending("checkpoint"):
                        self.checkpoints.save(state, self.data, metrics=metrics)
                    goodput.begin_lap()
                    logged_step = step
                    if self.after_evaluation(step) or self.checkpoints.has_ended(cadence):
                        break
                elif stopping or step % cadence.checkpoint_every == 0:
                    self._require_going_on(state)
                    self.validation.confirm()  # the data of a save are good; an evaluation asks too
                    with goodput.spending("checkpoint"):
                        self.checkpoints.save(state, self.data)
                if stopping and not last:
                    self.checkpoints.wait()  # a save counts once it is on the disk
                    return state, False
            self.checkpoints.wait()
        return state, True

    def _log(
        self, state: TrainState, step: int, rates: dict[str, float]
    ) -> tuple[TrainState, dict[str, str]]:
        """Record the training metrics since the last record, and begin a new window."""
        self._require_going_on(state)
        evaluator = self.evaluator
        values = evaluator.compute(state.metrics)
        losses = [part["log_loss"] for part in by_task(values, evaluator.tasks).values()]
        unknown, total = (int(x) for x in state.out_of_vocabulary)
        record = {
            "train/loss": mean_over_tasks(losses, evaluator.task_weights),
            **{f"train/{key}": value for key, value in values.items()},
            "train/out_of_vocabulary_rate": unknown / max(total, 1),
            "train/gradient_norm": float(state.gradient_norm),
            "train/skipped_updates": int(state.guard.skipped),
            **rates,
            **{f"time/{name}": share for name, share in self.goodput.shares().items()},
        }
        self.writer.write(step, record)
        state = state.replace(  # type: ignore[attr-defined]
            metrics=jax.tree.map(jnp.zeros_like, state.metrics),
            out_of_vocabulary=jnp.zeros_like(state.out_of_vocabulary),
        )
        line = {
            "loss": f"{record['train/loss']:.4f}",
            "NE": f"{values['normalized_entropy']:.4f}",
            "MFU": f"{rates['train/mfu']:.0%}",
        }
        return state, line

    def _require_going_on(self, state: TrainState) -> None:
        """Stop where the guard has given up, before anything of it is recorded or saved."""
        limit = self.config.training.stop_after_skips
        if not guard.has_given_up(state.guard, stop_after=limit):
            return
        last, count = int(state.step), int(state.guard.in_row)
        raise NonFiniteError(
            f"step {last}: expected a finite loss and finite gradients, got NaN or infinity in "
            f"{count} steps in a row ({last - count + 1} .. {last}); {self.diagnose(state)}; "
            f"the newest checkpoint is of step {self.checkpoints.latest_step}"
        )

    def _validate(self, state: TrainState, step: int) -> dict[str, float]:
        values = self.evaluator.evaluate(state.params, state.tables, self.validation)
        self.writer.write(step, {f"val/{key}": value for key, value in values.items()})
        return values


def _bar(start: int, num_steps: int, batch_size: int) -> tqdm:
    return tqdm(
        total=num_steps * batch_size,
        initial=start * batch_size,
        unit="ex",
        unit_scale=True,
        dynamic_ncols=True,
        desc="train",
        disable=not is_first(),
    )
