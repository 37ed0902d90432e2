"""Reads checkpoints: the state of a step, or a part of it, compared with its checksums."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kunlun_jax.config import ExperimentConfig, TrainingConfig, in_current_form, to_mapping
from kunlun_jax.data.schema import Schema
from kunlun_jax.files import first_difference
from kunlun_jax.training import manifest as manifests
from kunlun_jax.training.checkpoint_files import (
    CheckpointError,
    CheckpointFiles,
    DamagedCheckpointError,
)
from kunlun_jax.training.step import TrainState

BEST_METRIC = "normalized_entropy"


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


class CheckpointReader(CheckpointFiles):
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
        super().__init__(directory, options)
        self._identity = json.loads(json.dumps(identity))
        # Steps are ranked by what the manifests say, which a flipped bit cannot change unnoticed.
        self._best = KeepBest({}, 1) if best is None else best
        self.damaged: list[DamagedCheckpointError] = []
        for step in self._manager.all_steps():
            try:
                self._rank(step, self._manifest(step)["metrics"])
            except DamagedCheckpointError as error:
                self.damaged.append(error)

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest validation NE, None if none has one (a number)."""
        return next(iter(self._best.ranking(self._manager.all_steps())), None)

    def has_ended(self, training: TrainingConfig) -> bool:
        """Return whether the newest checkpoint is of an evaluation at which patience has run out.

        The best step is kept and ranked, so that it says how many evaluations there were since.

        Args:
            training: Patience, and steps between two evaluations.
        """
        latest, most = self.latest_step or 0, training.patience * training.eval_every
        since = latest - (self.best_step or 0)
        return 0 < most <= since and latest % training.eval_every == 0

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
        restored = self._verified(step, ocp.args.StandardRestore(target), manifest)  # type: ignore[call-arg]
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
        args = ocp.args.PyTreeRestore(  # type: ignore[call-arg]
            item=part,
            restore_args=ocp.checkpoint_utils.construct_restore_args(part),
            partial_restore=True,
        )
        return self._verified(step, args, manifest)

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


def model_identity(config: ExperimentConfig, schema: Schema) -> dict[str, Any]:
    """Return what of a checkpoint's identity says which model it is of.

    Args:
        config: The experiment.
        schema: The data set's schema.
    """
    settings = to_mapping(config)
    return {
        "config": {key: settings[key] for key in ("model", "optimizer", "seed")},
        "schema": schema.to_json(),
    }


def _of_this_version(identity: dict[str, Any]) -> dict[str, Any]:
    """Return a saved identity with its settings as this version writes them."""
    if "config" not in identity:
        return identity
    return {**identity, "config": in_current_form(identity["config"])}
