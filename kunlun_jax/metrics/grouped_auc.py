"""AUC of all examples, and GAUC: that of each user, averaged over users; exact, on host."""

import dataclasses
import math

import numpy as np

from kunlun_jax.metrics.scores import Scores
from kunlun_jax.shapes import Float, Shaped


def grouped_auc(
    user_ids: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Return the mean of the users' AUCs, each weighted by the user's impressions.

        GAUC = sum_u W_u AUC_u / sum_u W_u,   W_u = sum of u's weights,

    over the users who have both labels: of the others the AUC is undefined. A tie of a
    positive with a negative counts one half. Sums are in float64.

    Args:
        user_ids: Integer id of each example's user, in any order.
        scores: Logits or probabilities: any number that rises with the prediction.
        labels: 0 or 1.
        weights: Weight of each example, >= 0; 1 by default. Examples of weight 0 and examples
            whose score is NaN or infinite are left out.

    Returns:
        The mean, or NaN if no user has both labels.

    Raises:
        ValueError: If the arrays differ in length.
    """
    if weights is None:
        weights = np.ones(len(user_ids))
    lengths = [len(column) for column in (user_ids, scores, labels, weights)]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"expected user_ids, scores, labels and weights of one length, got {lengths}"
        )
    used = (weights > 0) & np.isfinite(scores)
    order = np.lexsort((scores[used], user_ids[used]))
    if not len(order):
        return math.nan
    users, scores = user_ids[used][order], scores[used][order]
    labels = labels[used][order].astype(np.float64)
    weights = weights[used][order].astype(np.float64)

    new_user = np.append(True, users[1:] != users[:-1])
    # A tie is a run of equal scores of one user; every array below has one entry per tie.
    tie_starts = np.flatnonzero(new_user | np.append(True, scores[1:] != scores[:-1]))
    positives = np.add.reduceat(weights * labels, tie_starts)
    negatives = np.add.reduceat(weights * (1.0 - labels), tie_starts)
    user_starts = np.flatnonzero(new_user[tie_starts])
    user_negatives = np.add.reduceat(negatives, user_starts)
    user_positives = np.add.reduceat(positives, user_starts)
    # The sum over all earlier users is taken off again.
    below = np.cumsum(negatives) - negatives
    below -= np.repeat(below[user_starts], np.diff(np.append(user_starts, len(below))))
    wins = np.add.reduceat(positives * (below + 0.5 * negatives), user_starts)

    both = (user_positives > 0) & (user_negatives > 0)
    if not both.any():
        return math.nan
    auc = wins[both] / (user_positives[both] * user_negatives[both])
    return float(np.average(auc, weights=user_positives[both] + user_negatives[both]))


@dataclasses.dataclass
class UserScores:
    """Predictions collected over the batches of an evaluation.

    Attributes:
        batches: Per batch: user ids [n], logits [n, L], labels [n, L], weights [n], without
            the examples of weight 0.
    """

    batches: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = dataclasses.field(
        default_factory=list
    )

    def append(
        self,
        *,
        user_ids: Shaped[np.ndarray, "B"],
        logits: Float[np.ndarray, "B L"],
        labels: Float[np.ndarray, "B L"],
        weights: Float[np.ndarray, "B"],
    ) -> None:
        """Add a batch of predictions, dropping its padding (weight 0)."""
        used = weights > 0
        self.batches.append((user_ids[used], logits[used], labels[used], weights[used]))

    def merged(self, other: "UserScores") -> "UserScores":
        """Return the predictions of both."""
        return UserScores([*self.batches, *other.batches])

    def scores(self) -> Scores:
        """Return everything that was added, at least one batch, in one piece."""
        if len(self.batches) > 1:  # kept in one piece, for the next one who asks
            columns = zip(*self.batches, strict=True)
            user_ids, logits, labels, weights = (np.concatenate(column) for column in columns)
            self.batches = [(user_ids, logits, labels, weights)]
        return Scores(*self.batches[0])

    def auc_roc(self, task: int = 0) -> float:
        """Return the exact AUC of one task: by ranks, so that no two logits are too near.

        Examples whose logit is NaN or infinite are left out. NaN for a single class, or if nothing
        was added.

        Args:
            task: Column of the logits.
        """
        if not self.batches:
            return math.nan
        scores = self.scores()
        one_group = np.zeros(len(scores), np.int8)
        return grouped_auc(
            one_group, scores.logits[:, task], scores.labels[:, task], scores.weights
        )

    def grouped_auc(self, task: int = 0) -> float:
        """Return the GAUC of one task (a column of the logits); NaN if nothing was added."""
        if not self.batches:
            return math.nan
        scores = self.scores()
        return grouped_auc(
            scores.user_ids, scores.logits[:, task], scores.labels[:, task], scores.weights
        )
