"""Checkpoints: the train state, the position in the data, and which run they belong to.

Every checkpoint carries a manifest with the checksum of every leaf, taken from memory before the
save, and is compared with it when it is restored. Of several processes, each writes and reads what
its devices hold, and what one of them finds damaged is damaged for all.
"""

import pathlib
import shutil
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kunlun_jax.hosts.processes import is_first, together
from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.checkpoint_files import CheckpointError, DamagedCheckpointError
from kunlun_jax.training.checkpoint_reader import BEST_METRIC, CheckpointReader, KeepBest
from kunlun_jax.training.step import TrainState

__all__ = ["BEST_METRIC", "DAMAGED", "CheckpointError", "Checkpoints", "DamagedCheckpointError"]

DAMAGED = "damaged_checkpoints"


class Checkpoints(CheckpointReader):
    """The checkpoints of one run: the latest ones, to resume, and the best ones by validation NE.

    Saving is asynchronous; `wait` and `close` wait for it and raise what went wrong.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        keep: int,
        identity: dict[str, Any],
        read_only: bool = False,
    ) -> None:
        """Open the checkpoints of a run, or begin with none.

        Args:
            directory: Where they lie; made if missing. What a killed save left there is removed.
            keep: How many of the latest and how many of the best are kept.
            identity: What has to agree between two runs that share checkpoints, JSON-serialisable:
                model, schema, and the fingerprint of the data pipeline.
            read_only: Whether to write nothing, neither what is missing nor over what is half done.

        Raises:
            OSError: If the directory cannot be made or read.
        """
        self._keep, best = keep, KeepBest({}, keep)
        options = None if read_only else _options_of_writing(best)
        super().__init__(directory, identity=identity, best=best, options=options)

    def require_room(self, state: TrainState) -> None:
        """Refuse a disk that the checkpoints of a run would fill.

        Args:
            state: The state, or its shapes.

        Raises:
            CheckpointError: If there is no room for as many as are kept, and the one being written.
        """
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        count = max(2 * self._keep + 1 - len(self._manager.all_steps()), 1)
        _require_room(self.directory, count, size)

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
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        manifest = manifests.make_manifest(
            state, identity=self._identity, position=data.get_state(), metrics=metrics
        )
        self._rank(step, metrics)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),  # type: ignore[call-arg]
            manifest=ocp.args.JsonSave(manifest),  # type: ignore[call-arg]
        )
        with self._explained("cannot be saved"):
            accepted = self._manager.save(step, args=items)
        if not accepted:
            raise CheckpointError(
                f"{self.directory}: expected to save a step after {self.latest_step}, got {step}"
            )

    def restore_newest(
        self, state: TrainState, data: grain.DatasetIterator
    ) -> tuple[TrainState | None, list[str]]:
        """Return the state of the newest checkpoint that is good, and what is wrong with others.

        Damaged checkpoints that are newer than the good one are set aside, so that their steps can
        be saved again; while none is good, nothing is touched.

        Args:
            state: As for `restore`.
            data: Iterator, moved likewise.

        Returns:
            The state, None if there are no checkpoints; one line for every one set aside.

        Raises:
            CheckpointError: If one is of another model or another data pipeline.
            DamagedCheckpointError: If there are checkpoints, but none is good.
            OSError: If one cannot be read.
        """
        damaged: dict[int, DamagedCheckpointError] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self.restore(step, state, data)
            except DamagedCheckpointError as error:
                damaged[step] = error
                continue
            return restored, [f"{error}; {self.set_aside(n)}" for n, error in damaged.items()]
        if damaged:
            raise DamagedCheckpointError(
                f"{self.directory}: expected a good checkpoint, got {len(damaged)} damaged; the "
                f"newest: {next(iter(damaged.values()))}"
            )
        return None, []

    def set_aside(self, step: int) -> str:
        """Move a damaged checkpoint out of the way, and say where to."""
        aside = self.directory.with_name(DAMAGED) / str(step)
        with together():
            if is_first():
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                (self.directory / str(step)).rename(aside)
        self._best.entropies.pop(step, None)
        self._manager.reload()
        return f"set aside as {aside}"

    def wait(self) -> None:
        """Wait until everything is saved.

        Raises:
            CheckpointError: If a save failed.
        """
        with self._explained("cannot be saved"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Wait as `wait` does, and end the background work.

        Raises:
            CheckpointError: If a save failed.
        """
        with self._explained("cannot be saved"):
            try:
                self.wait()
            finally:
                self._manager.close()
                if self._reader is not self._manager:
                    self._reader.close()


def _options_of_writing(best: KeepBest) -> ocp.CheckpointManagerOptions:
    latest = checkpoint_managers.LatestN(best.count)
    return ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy([latest, best]),
        cleanup_tmp_directories=True,
    )


def _require_room(directory: pathlib.Path, count: int, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < count * size:
        raise CheckpointError(
            f"{directory}: expected room for {count} checkpoints of {size / 1e6:.1f} MB, "
            f"got {free / 1e6:.1f} MB free; make room or lower config.training.keep_checkpoints"
        )
