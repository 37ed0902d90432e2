"""Bootstrap over seeds and users: how far the numbers of a study are from chance.

Two things were drawn, and are drawn again: the users of the test split, the same ones for every run
of a draw, so that what families and sizes share cancels in their differences (each run's record
holds these); and the seeds.
"""

import dataclasses
import math

import numpy as np

from kunlun_jax.shapes import Float


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and its percentile interval.

    Attributes:
        estimate: The value from the data as they are.
        low: Lower end; None: unbounded.
        high: Upper end; None: unbounded.
    """

    estimate: float | None
    low: float | None
    high: float | None

    def contains(self, value: float) -> bool:
        """Return whether a value lies inside."""
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)


def draw_seeds(
    values: Float[np.ndarray, "draws families sizes seeds"], *, seed: int = 0
) -> Float[np.ndarray, "draws families sizes"]:
    """Return the mean over seeds of every family and size: as measured, then drawn again.

    A seed's deviation from its cell's mean is drawn from all sizes of its family, taken to be
    alike, because a cell of three alone says little. Deviations from a mean of K are too small by
    sqrt((K - 1) / K) and are stretched by as much; from a single seed there are none.

    Args:
        values: A metric of every run, first as measured, then on resamples of the users.
        seed: Seed of the draws.

    Returns:
        As many rows, the first one of the data as they are.
    """
    num_draws, num_families, num_sizes, num_seeds = values.shape
    generator = np.random.default_rng(seed)
    stretch = math.sqrt(num_seeds / (num_seeds - 1)) if num_seeds > 1 else 0.0
    means = values.mean(axis=-1)
    deviations = (values - means[..., None]).reshape(num_draws, num_families, -1)
    picks = generator.integers(num_sizes * num_seeds, size=deviations.shape)
    drawn = np.take_along_axis(deviations, picks, axis=-1).reshape(values.shape).mean(axis=-1)
    drawn[0] = 0.0
    return means + stretch * drawn


def interval(values: Float[np.ndarray, "draws"], confidence: float) -> Interval:
    """Return the first value and the percentiles of the others.

    Args:
        values: The estimate, then its draws. An infinite one counts, and makes an end that it
            reaches unbounded; one that is NaN could be anything and counts on both sides.
        confidence: Share of the draws between the ends, half of the rest on each side.
    """
    estimate, draws = float(values[0]), values[1:]
    unknown = np.isnan(draws)
    tail = 0.5 * (1.0 - confidence)
    lows = np.where(unknown, -np.inf, draws)
    highs = np.where(unknown, np.inf, draws)
    low = float(np.quantile(lows, tail, method="inverted_cdf"))
    high = float(np.quantile(highs, 1.0 - tail, method="inverted_cdf"))
    return Interval(*(value if math.isfinite(value) else None for value in (estimate, low, high)))


def ratio(
    numerator: Float[np.ndarray, "draws"], denominator: Float[np.ndarray, "draws"]
) -> Float[np.ndarray, "draws"]:
    """Return numerator / denominator where the denominator is positive.

    Elsewhere the denominator does not scale at all: against it, a positive numerator is infinitely
    better, and of another one the ratio says nothing (NaN).
    """
    positive = denominator > 0
    quotient = numerator / np.where(positive, denominator, 1.0)
    return np.where(positive, quotient, np.where(numerator > 0, np.inf, np.nan))
