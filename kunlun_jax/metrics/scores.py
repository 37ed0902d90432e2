"""What a model predicted for every example of a split: where comparisons of models start."""

import dataclasses

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) in float64, in the shape of the logits.

    Different float32 logits above -700 and below 36 have different probabilities, in their order.
    """
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


@dataclasses.dataclass(frozen=True)
class Scores:
    """Predictions and labels, in the order of the split.

    Attributes:
        user_ids: int [n], the data set's index of the user.
        logits: float32 [n, L], predicted log-odds.
        labels: [n, L], 0 or 1.
        weights: [n], > 0.
    """

    user_ids: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.user_ids)

    def log_losses(self, task: int = 0) -> np.ndarray:
        """Return every example's binary cross entropy in nats, float64 [n], unweighted.

        Args:
            task: Column of the logits and labels.
        """
        logits = self.logits[:, task].astype(np.float64)
        labels = self.labels[:, task].astype(np.float64)
        return labels * np.logaddexp(0.0, -logits) + (1.0 - labels) * np.logaddexp(0.0, logits)

    def same_examples(self, other: "Scores") -> bool:
        """Return whether both are of the same examples in the same order."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("user_ids", "labels", "weights")
        )
