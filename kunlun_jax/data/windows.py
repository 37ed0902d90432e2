"""What was known before a moment: counts and means over trailing windows, per key."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """When keys were observed: counts over windows, and the latest moment, in O(log n).

    Attributes:
        key: int64 [n], ascending; key and time in one integer.
        origin: Smallest time that was observed.
        span: Stride of a key: one step before the observed times, they, one step after.
    """

    key: np.ndarray
    origin: int
    span: int

    @classmethod
    def build(cls, key: np.ndarray, time: np.ndarray) -> "Moments":
        """Sort observations by key and time.

        Args:
            key: int [n], what is observed, e.g. a product; >= 0.
            time: int64 [n].
        """
        combined, origin, span = _combined(key, time)
        return cls(np.sort(combined), origin, span)

    def position(self, key: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return how many observations lie before a time of a key; the arrays broadcast.

        Those of all smaller keys lie before it too: two positions of one key tell what is between.
        """
        shifted = np.minimum(np.maximum(time - (self.origin - 1), 0), self.span - 1)
        return np.searchsorted(self.key, key.astype(np.int64) * self.span + shifted, side="left")

    def count(self, key: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Count the observations of each key with start <= time < stop; the arrays broadcast."""
        return self.position(key, stop) - self.position(key, start)

    def latest(self, key: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return float64, the last time at which each key was observed before a position.

        NaN where it never was. The arrays have one shape.
        """
        if not len(self.key):
            return np.full(key.shape, np.nan)
        observed, time = np.divmod(self.key[np.maximum(position - 1, 0)], self.span)
        before = (observed == key) & (position > 0)
        return np.where(before, time - 1 + self.origin, np.nan)


@dataclasses.dataclass(frozen=True)
class History:
    """Observed values by (key, time), with cumulative sums for means over windows in O(log n).

    Attributes:
        moments: When they were observed.
        total: float64 [n + 1], cumulative sum of the values.
        value: float64 [n], in the order of the moments.
    """

    moments: Moments
    total: np.ndarray
    value: np.ndarray

    @classmethod
    def build(cls, key: np.ndarray, time: np.ndarray, value: np.ndarray) -> "History":
        """Sort observations by key and time.

        Args:
            key: int [n], what is observed, e.g. a product; >= 0.
            time: int64 [n].
            value: [n], e.g. a price.
        """
        combined, origin, span = _combined(key, time)
        order = np.argsort(combined, kind="stable")
        ordered = value[order].astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(ordered)])
        return cls(Moments(combined[order], origin, span), total, ordered)

    def mean_or_last(self, key: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Average the values with start <= time < stop.

        Returns:
            The mean; where the window is empty the last value before it; NaN without any.
        """
        if not len(self.value):
            return np.full(len(key), np.nan)
        moments = self.moments
        low, high = moments.position(key, start), moments.position(key, stop)
        count = high - low
        mean = (self.total[high] - self.total[low]) / np.maximum(count, 1)
        previous = np.maximum(low - 1, 0)
        known = (low > 0) & (moments.key[previous] // moments.span == key)
        last = np.where(known, self.value[previous], np.nan)
        return np.where(count > 0, mean, last)


def _combined(key: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return key and time in one integer, with the origin and the span of `Moments`."""
    origin, last = (int(time.min()), int(time.max())) if len(time) else (0, 0)
    span = last - origin + 3
    return key.astype(np.int64) * span + (time - origin) + 1, origin, span
