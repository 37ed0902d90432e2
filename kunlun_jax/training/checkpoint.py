"""Checkpoints: the train state, the position in the data, and which run they belong to.

Every checkpoint carries a manifest with the checksum of every leaf, taken from memory before the
save, and is compared with it when it is restored. Of several processes, each writes and reads what
its devices hold, and what one of them finds damaged is damaged for all.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kunlun_jax.config import in_current_form
from kunlun_jax.files import first_difference
from kunlun_jax.hosts.processes import is_first, several, together
from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.manifest import ManifestError
from kunlun_jax.training.step import TrainState

BEST_METRIC = "normalized_entropy"
DAMAGED = "damaged_checkpoints"


class CheckpointError(ValueError):
    """A checkpoint that does not fit the run that wants it, or cannot be read or written."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is not what was saved: incomplete, unreadable, or of other bits."""


@dataclasses.dataclass
class KeepBest(checkpoint_managers.PreservationPolicy):
    """Preserves the checkpoints of the lowest validation NE.

    Attributes:
        entropies: Validation NE by step, of the steps whose NE is a number.
        count: How many are preserved.
    """

    entropies: dict[int, float]
    count: int

    def should_preserve(
        self,
        checkpoints: Sequence[Any],  # PolicyCheckpointInfo, a protocol that cannot be checked
        *,
        context: checkpoint_managers.PreservationContext,
    ) -> Sequence[bool]:
        """Return, for every checkpoint, whether it is among the best."""
        del context
        best = self.ranking([info.step for info in checkpoints])[: self.count]
        return [info.step in best for info in checkpoints]

    def ranking(self, steps: Sequence[int]) -> list[int]:
        """Return those of the steps whose NE is known, the best one first."""
        return sorted(
            (step for step in steps if step in self.entropies),
            key=lambda step: (self.entropies[step], step),
        )


class Checkpoints:
    """The checkpoints of one run: the latest ones, to resume, and the best ones by validation NE.

    Saving is asynchronous; `wait` and `close` wait for it and raise what went wrong.

    Attributes:
        directory: Where they lie.
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
        self.directory = directory.absolute()
        self._keep = keep
        self._identity = json.loads(json.dumps(identity))
        # Steps are ranked by what the manifests say, which a flipped bit cannot change unnoticed.
        self._best = KeepBest({}, keep)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(read_only=True)
            if read_only
            else ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [checkpoint_managers.LatestN(keep), self._best]
                ),
                cleanup_tmp_directories=True,
            ),
        )
        self._reader = self._open_reader()
        for step in self._manager.all_steps():
            with contextlib.suppress(DamagedCheckpointError):
                self._rank(step, self._manifest(step)["metrics"])

    def _open_reader(self) -> ocp.CheckpointManager:
        """Return what restores: of several processes, each has its own, which waits for no other.

        One that finds damage would leave the others waiting for it.
        """
        if not several():
            return self._manager
        this = jax.process_index()
        return ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                read_only=True,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=this, active_processes={this}
                ),
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest validation NE, None if none has one (a number)."""
        return next(iter(self._best.ranking(self._manager.all_steps())), None)

    def require_room(self, state: TrainState) -> None:
        """Refuse a disk that the checkpoints of a run would fill.

        Args:
            state: The state, or its shapes.

        Raises:
            CheckpointError: If there is no room for as many as are kept, and the one being written.
        """
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        count = max(2 * self._keep + 1 - len(self._manager.all_steps()), 1)
        free = shutil.disk_usage(self.directory).free
        if free < count * size:
            raise CheckpointError(
                f"{self.directory}: expected room for {count} checkpoints of {size / 1e6:.1f} MB, "
                f"got {free / 1e6:.1f} MB free; make room or lower config.training.keep_checkpoints"
            )

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
        with self._explained("cannot be saved"):
            accepted = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # type: ignore[call-arg]
                    manifest=ocp.args.JsonSave(manifest),  # type: ignore[call-arg]
                ),
            )
        if not accepted:
            raise CheckpointError(
                f"{self.directory}: expected to save a step after {self.latest_step}, got {step}"
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
            CheckpointError: If the checkpoint is of another model or another data pipeline.
            DamagedCheckpointError: If it is not what was saved.
            OSError: If it cannot be read.
        """
        manifest = self._manifest(step)
        self._require_equal(
            step, "another run", self._identity, _of_this_version(manifest["identity"])
        )
        saved = manifests.saved_layout(manifest)
        self._require_equal(step, "another state", manifests.layout(state), saved)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        with self._damage(step):
            restored = self._reader.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target),  # type: ignore[call-arg]
                ),
            )["state"]
        with self._damage(step):
            manifests.verify_leaves(restored, manifest)
        if data is not None:
            data.set_state(manifest["position"])
        return restored

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
        place = self.directory.with_name(DAMAGED) / str(step)
        with together():
            if is_first():
                shutil.rmtree(place, ignore_errors=True)
                place.parent.mkdir(exist_ok=True)
                (self.directory / str(step)).rename(place)
        self._best.entropies.pop(step, None)
        self._manager.reload()
        return f"set aside as {place}"

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

    def _manifest(self, step: int) -> dict[str, Any]:
        with self._damage(step):
            found = self._reader.restore(
                step,
                args=ocp.args.Composite(manifest=ocp.args.JsonRestore()),  # type: ignore[call-arg]
            )["manifest"]
            return manifests.verify_manifest(found)

    def _require_equal(self, step: int, whose: str, expected: Any, got: Any) -> None:
        difference = first_difference(expected, got)
        if difference:
            where, wanted, found = difference
            raise CheckpointError(
                f"{self.directory / str(step)}: a checkpoint of {whose}: {where}: "
                f"expected {wanted!r}, got {found!r}"
            )

    def _rank(self, step: int, metrics: dict[str, float] | None) -> None:
        """Note the validation NE of a step; one that is not a number makes none the best."""
        self._best.entropies.pop(step, None)
        if metrics is not None and not math.isnan(metrics[BEST_METRIC]):
            self._best.entropies[step] = metrics[BEST_METRIC]

    @contextlib.contextmanager
    def _damage(self, step: int) -> Iterator[None]:
        """Turn what the storage library makes of damaged files, errors of any type, into one.

        What is damage to one process is to all of them.
        """
        try:
            with together():
                yield
        except (FileNotFoundError, NotADirectoryError, ManifestError) as error:
            raise self._damaged(step, error) from error
        except OSError:
            raise  # no access or no device: nothing is known about the checkpoint
        except Exception as error:
            raise self._damaged(step, error) from error

    def _damaged(self, step: int, error: Exception) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"{self.directory / str(step)}: {_short(error)}")

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Name the directory in the storage library's errors, which come as many types."""
        try:
            yield
        except CheckpointError:
            raise
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self.directory}: {what}: {_short(error)}") from error


def _of_this_version(identity: dict[str, Any]) -> dict[str, Any]:
    """Return a saved identity with its settings as this version writes them."""
    if "config" not in identity:
        return identity
    return {**identity, "config": in_current_form(identity["config"])}


def _short(error: Exception) -> str:
    """Return the message of an error; of a KeyError the key alone would say little."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(message).split()) or type(error).__name__
    # Long ones repeat paths in the middle; the system's own word comes last.
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-145:]}"
