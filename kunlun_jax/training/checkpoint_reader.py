"""Reads checkpoints: the state of a step, or a part of it, compared with its checksums."""

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kunlun_jax.config import in_current_form
from kunlun_jax.files import first_difference
from kunlun_jax.hosts.processes import several, together
from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.manifest import ManifestError
from kunlun_jax.training.step import TrainState

BEST_METRIC = "normalized_entropy"


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


class CheckpointReader:
    """The checkpoints of one run, as they are.

    Attributes:
        directory: Where they lie.
        damaged: What is wrong with those whose manifest is, and which are therefore not ranked.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        identity: dict[str, Any],
        best: KeepBest | None = None,
        options: ocp.CheckpointManagerOptions | None = None,
    ) -> None:
        """Open the checkpoints of a run.

        Args:
            directory: Where they lie.
            identity: What has to agree between two runs that share checkpoints, JSON-serialisable.
            best: Gets the validation NE of every step that is there.
            options: Of what also writes; by default nothing is written, neither what is missing
                nor over what is half done.

        Raises:
            OSError: If the directory cannot be read.
        """
        self.directory = directory.absolute()
        self._identity = json.loads(json.dumps(identity))
        # Steps are ranked by what the manifests say, which a flipped bit cannot change unnoticed.
        self._best = KeepBest({}, 1) if best is None else best
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=options or ocp.CheckpointManagerOptions(read_only=True),
        )
        self._reader = self._open_reader()
        self.damaged: list[DamagedCheckpointError] = []
        for step in self._manager.all_steps():
            try:
                self._rank(step, self._manifest(step)["metrics"])
            except DamagedCheckpointError as error:
                self.damaged.append(error)

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

    def checksum(self, step: int) -> str:
        """Return the SHA-256 of the manifest of a step, which has the checksum of every leaf.

        Raises:
            DamagedCheckpointError: If it is not what was saved.
        """
        return self._manifest(step)["sha256"]

    def restore_part(self, step: int, part: dict[str, Any]) -> dict[str, Any]:
        """Return some fields of the state of a step, whichever run of the identity it is of.

        Only those keys of the identity have to agree that were given: nothing is trained on.

        Args:
            step: Which step.
            part: Shapes, dtypes and shardings, by field of the state.

        Raises:
            CheckpointError: If the checkpoint is of another model.
            DamagedCheckpointError: If it is not what was saved.
            OSError: If it cannot be read.
        """
        manifest = self._manifest(step)
        saved = _of_this_version(manifest["identity"])
        known = {key: saved.get(key, "nothing") for key in self._identity}
        self._require_equal(step, "another run", self._identity, known)
        layout, wanted = manifests.saved_layout(manifest), manifests.layout(part)
        layout = {name: kind for name, kind in layout.items() if name.split("/")[0] in part}
        self._require_equal(step, "another state", wanted, layout)
        with self._damage(step):
            restored = self._reader.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeRestore(  # type: ignore[call-arg]
                        item=part,
                        restore_args=ocp.checkpoint_utils.construct_restore_args(part),
                        partial_restore=True,
                    ),
                ),
            )["state"]
        with self._damage(step):
            manifests.verify_leaves(restored, manifest)
        return restored

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
        return DamagedCheckpointError(f"{self.directory / str(step)}: {short_message(error)}")


def _of_this_version(identity: dict[str, Any]) -> dict[str, Any]:
    """Return a saved identity with its settings as this version writes them."""
    if "config" not in identity:
        return identity
    return {**identity, "config": in_current_form(identity["config"])}


def short_message(error: Exception) -> str:
    """Return the message of an error; of a KeyError the key alone would say little."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(message).split()) or type(error).__name__
    # Long ones repeat paths in the middle; the system's own word comes last.
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-145:]}"
