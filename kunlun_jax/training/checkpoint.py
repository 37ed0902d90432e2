"""Checkpoints: the train state, the position in the data, and which run they belong to."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kunlun_jax.training.step import TrainState

BEST_METRIC = "normalized_entropy"


class CheckpointError(ValueError):
    """A checkpoint that does not fit the run that wants it, or cannot be read or written."""


class Checkpoints:
    """The checkpoints of one run: the latest ones, to resume, and the best ones by validation NE.

    Saving is asynchronous; `close` waits for it and raises what went wrong.

    Attributes:
        directory: Where they lie.
    """

    def __init__(self, directory: pathlib.Path, *, keep: int, identity: dict[str, Any]) -> None:
        """Open the checkpoints of a run, or begin with none.

        Args:
            directory: Where they lie; made if missing.
            keep: How many of the latest and how many of the best are kept.
            identity: What has to agree between two runs that share checkpoints, JSON-serialisable:
                model, schema, and the fingerprint of the data pipeline.
        """
        self.directory = directory.absolute()
        self._identity = json.loads(json.dumps(identity))
        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[BEST_METRIC],
                reverse=True,
                n=keep,
                keep_checkpoints_without_metrics=False,
            ),
        ]
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                best_fn=lambda metrics: metrics[BEST_METRIC],
                best_mode="min",
                cleanup_tmp_directories=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest validation NE, None if none has one."""
        return self._manager.best_step()

    def save(
        self,
        state: TrainState,
        data: grain.DatasetIterator,
        *,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Save a step, unless it is saved already.

        Args:
            state: Train state.
            data: Iterator whose position belongs to the state.
            metrics: Validation metrics of this step, if it was evaluated.

        Raises:
            CheckpointError: If this save cannot begin, or the one before failed.
            OSError: Likewise.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        with self._explained("cannot be saved"):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # type: ignore[call-arg]
                    data=grain.checkpoint.CheckpointSave(data),  # type: ignore[call-arg]
                    identity=ocp.args.JsonSave(self._identity),  # type: ignore[call-arg]
                ),
                metrics=metrics,
            )

    def restore(
        self, step: int, state: TrainState, data: grain.DatasetIterator | None = None
    ) -> TrainState:
        """Return the state of a step, and move the iterator to where it was then.

        Args:
            step: Which step.
            state: A state of the right structure, shapes, dtypes and shardings.
            data: Iterator to move; None restores the state alone.

        Raises:
            CheckpointError: If the checkpoint is of another model or another data pipeline, or
                damaged.
            OSError: If it cannot be read.
        """
        with self._explained(f"step {step} cannot be restored"):
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(identity=ocp.args.JsonRestore()),  # type: ignore[call-arg]
            )["identity"]
        difference = first_difference(self._identity, found)
        if difference:
            where, expected, got = difference
            raise CheckpointError(
                f"{self.directory / str(step)}: a checkpoint of another run: {where}: "
                f"expected {expected!r}, got {got!r}"
            )
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items = {"state": ocp.args.StandardRestore(target)}  # type: ignore[call-arg]
        if data is not None:
            items["data"] = grain.checkpoint.CheckpointRestore(data)  # type: ignore[call-arg]
        with self._explained(f"step {step} cannot be restored"):
            return self._manager.restore(step, args=ocp.args.Composite(**items))["state"]

    def wait(self) -> None:
        """Wait until everything is saved.

        Raises:
            CheckpointError: If a save failed.
            OSError: Likewise.
        """
        with self._explained("cannot be saved"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Wait as `wait` does, and end the background work."""
        try:
            self.wait()
        finally:
            self._manager.close()

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Name the directory in the storage library's errors, which come as many types."""
        try:
            yield
        except (KeyError, RuntimeError, ValueError) as error:
            message = error.args[0] if isinstance(error, KeyError) else error
            raise CheckpointError(f"{self.directory}: {what}: {message!s:.300}") from error


def first_difference(expected: Any, got: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """Return the path to, and the two values of, the first place where nested mappings differ."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(set(expected) | set(got)):
            place = f"{where}.{key}" if where else key
            if key not in expected or key not in got:
                return place, expected.get(key, "nothing"), got.get(key, "nothing")
            difference = first_difference(expected[key], got[key], place)
            if difference:
                return difference
        return None
    return None if expected == got else (where, expected, got)
