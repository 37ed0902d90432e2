"""How certain a number of an evaluation is: the bootstrap over users.

A user's examples resemble each other, so users are drawn and not examples: every resample draws as
many users as there are, with replacement (multinomial counts), and a user who was drawn k times
brings all of his examples k times. Two models that are measured on the same resamples are compared
pairwise: what makes a resample hard for both cancels in the difference.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class ComparisonError(ValueError):
    """Predictions that cannot be compared, or whose uncertainty their users do not show."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: Of the examples as they are.
        low: Lower end of the percentile interval.
        high: Upper end.
        p_value: Two-sided, that the true value is 0: twice the share of resamples on the other
            side of 0, counting one more, so at least 2 / (resamples + 1). Where it is below
            1 - confidence, the interval excludes 0.
    """

    value: float
    low: float
    high: float
    p_value: float


def estimate(value: float, resampled: np.ndarray, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return a number with its percentile interval and p-value.

    Args:
        value: Of the examples as they are.
        resampled: [draws], of the resamples; NaN where one does not define it (a single class).
        confidence: Probability of the interval, in (0, 1).

    Raises:
        ComparisonError: If no resample defines it.
    """
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled):
        raise ComparisonError("bootstrap: expected resamples with both labels, got none")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    beyond = min(np.sum(resampled <= 0.0), np.sum(resampled >= 0.0))
    p_value = min(1.0, 2.0 * (beyond + 1) / (len(resampled) + 1))
    return Estimate(float(value), float(low), float(high), float(p_value))


class UserBootstrap:
    """The same resamples of users for every statistic that is asked of them.

    Statistics are computed without copying examples: a mean from the sums of every user, an AUC
    from examples sorted once, with weights that change from resample to resample.

    Attributes:
        num_users: Users.
        num_resamples: R.
    """

    def __init__(
        self, user_ids: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
    ) -> None:
        """Number the users.

        Args:
            user_ids: int [n], the user of every example.
            num_resamples: R.
            seed: Seed of the draws.

        Raises:
            ComparisonError: If there are fewer than two users, or no resamples.
        """
        users, self._users = np.unique(user_ids, return_inverse=True)
        self.num_users, self.num_resamples, self._seed = len(users), num_resamples, seed
        if self.num_users < 2 or num_resamples < 1:
            raise ComparisonError(
                "bootstrap: expected at least 2 users and 1 resample, got "
                f"{self.num_users} and {num_resamples}"
            )

    def counts(self) -> Iterator[np.ndarray]:
        """Yield how often every resample draws each user, float64 [users]; always the same."""
        rng = np.random.default_rng(self._seed)
        for _ in range(self.num_resamples):
            drawn = rng.integers(self.num_users, size=self.num_users)
            yield np.bincount(drawn, minlength=self.num_users).astype(np.float64)

    def means(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean of every resample, float64 [draws].

        Args:
            values: [n] or [n, columns], by example; with columns, the result is [draws, columns].
            weights: [n], > 0.
        """
        weights = weights.astype(np.float64)
        columns = values.reshape(len(values), -1).astype(np.float64) * weights[:, None]
        sums = np.stack([self._by_user(column) for column in columns.T], axis=1)
        weight = self._by_user(weights)
        means = np.array([(count @ sums) / (count @ weight) for count in self.counts()])
        return means.reshape(self.num_resamples, *values.shape[1:])

    def aucs(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the AUC of every resample, float64 [draws]; NaN where it has a single class.

        By weighted ranks: with the negatives sorted by score, the weight below a positive is a
        difference of cumulative sums. A tie counts one half.

        Args:
            scores: [n], any number that rises with the prediction.
            labels: [n], 0 or 1.
            weights: [n], > 0.
        """
        ranks = _Ranks(scores, labels, weights, self._users)
        return np.array([ranks.auc(count) for count in self.counts()])

    def _by_user(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._users, weights=values, minlength=self.num_users)


def auc_roc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Return the exact AUC; NaN for a single class. Arguments as of `UserBootstrap.aucs`."""
    return _Ranks(scores, labels, weights, np.zeros(len(scores), np.int64)).auc(np.ones(1))


class _Ranks:
    """Examples sorted once; their AUC for any weights of the users."""

    def __init__(
        self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, users: np.ndarray
    ) -> None:
        weights = weights.astype(np.float64)
        positive = np.flatnonzero(labels > 0.5)
        negative = np.flatnonzero(labels <= 0.5)
        negative = negative[np.argsort(scores[negative], kind="stable")]
        positive = positive[np.argsort(scores[positive], kind="stable")]  # for the cache's sake
        self._positive = users[positive], weights[positive]
        self._negative = users[negative], weights[negative]
        # Negatives strictly below a positive, and those that tie with it as well.
        self._below, self._up_to = (
            np.searchsorted(scores[negative], scores[positive], side=side)
            for side in ("left", "right")
        )

    def auc(self, count: np.ndarray) -> float:
        (positive_users, positive_weights) = self._positive
        (negative_users, negative_weights) = self._negative
        positives = positive_weights * count[positive_users]
        cumulative = np.zeros(len(negative_users) + 1)
        np.cumsum(negative_weights * count[negative_users], out=cumulative[1:])
        pairs = positives.sum() * cumulative[-1]
        if pairs <= 0.0:
            return np.nan
        wins = positives @ (cumulative[self._below] + cumulative[self._up_to])
        return float(0.5 * wins / pairs)
