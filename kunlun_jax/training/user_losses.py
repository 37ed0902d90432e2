"""Log losses of every user of the test split, kept beside a run for comparisons between runs."""

import dataclasses
import pathlib
import zipfile

import numpy as np

from kunlun_jax.shapes import Float, Int
from kunlun_jax.training.grouped_auc import UserScores
from kunlun_jax.training.metrics import binary_entropy
from kunlun_jax.training.workdir import WorkdirError

USER_LOSSES_FILE = "test_user_losses.npz"


@dataclasses.dataclass(frozen=True)
class UserLosses:
    """Sums over the examples of each user; users are what a bootstrap can draw independently.

    Attributes:
        user_ids: The users, ascending.
        losses: Weighted sum of the binary cross entropies of each user and task, in nats.
        weights: Sum of the weights of each user's examples.
        label_rates: Mean label of the training split, one a task.
    """

    user_ids: Int[np.ndarray, "users"]
    losses: Float[np.ndarray, "users tasks"]
    weights: Float[np.ndarray, "users"]
    label_rates: Float[np.ndarray, "tasks"]

    @property
    def normalized(self) -> Float[np.ndarray, "users"]:
        """Each user's share of the normalized entropy, the mean over tasks.

        NE = sum of `normalized` / sum of `weights`.
        """
        entropies = np.array([binary_entropy(float(rate)) for rate in self.label_rates])
        return np.mean(self.losses / entropies, axis=1)

    @classmethod
    def of(cls, scores: UserScores, label_rates: list[float]) -> "UserLosses":
        """Sum the losses of an evaluation by user, in float64.

        Examples with a logit that is NaN or infinite are left out, as the metrics leave them out.

        Args:
            scores: Predictions of the split.
            label_rates: Mean label of the training split, one a task.
        """
        users, logits, labels, weights = (
            np.concatenate(column) for column in zip(*scores.batches, strict=True)
        )
        used = np.isfinite(logits).all(axis=1)
        logits, labels = logits[used].astype(np.float64), labels[used].astype(np.float64)
        losses = np.logaddexp(0.0, logits) - labels * logits
        user_ids, index = np.unique(users[used], return_inverse=True)
        sums = np.zeros((len(user_ids), logits.shape[1]))
        np.add.at(sums, index, losses * weights[used, None])
        totals = np.bincount(index, weights[used], len(user_ids))
        return cls(user_ids, sums, totals, np.asarray(label_rates, np.float64))

    def save(self, workdir: pathlib.Path) -> None:
        """Write the file, by way of a temporary one.

        Raises:
            OSError: If it cannot be written.
        """
        temporary = workdir / f"{USER_LOSSES_FILE}.tmp"
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **dataclasses.asdict(self))
        temporary.replace(workdir / USER_LOSSES_FILE)

    @classmethod
    def load(cls, workdir: pathlib.Path) -> "UserLosses":
        """Read what a run kept.

        Raises:
            WorkdirError: If it is missing or damaged.
        """
        path = workdir / USER_LOSSES_FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{f.name: arrays[f.name] for f in dataclasses.fields(cls)})
        except (EOFError, OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
            raise WorkdirError(f"{path}: expected a run's losses by user: {error}") from error
