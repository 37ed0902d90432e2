"""The two laws of docs/model.md#scaling-law, fitted to many draws of the same measurements at once.

C is the forward FLOPs per example. Both laws are written around C_0 = 1 MFLOP, so that NE_0 and b
are values within reach of the sizes measured instead of extrapolations to a single operation.
"""

import dataclasses
import math

import numpy as np

from kunlun_jax.shapes import Float

REFERENCE_FLOPS = 1e6  # C_0
EXPONENTS = (0.01, 4.0)  # bounds of c: below is all but a logarithm, above all but a step
_ROUNDS = (97, 33, 33, 33)  # exponents tried, each round between the neighbours of the best


@dataclasses.dataclass(frozen=True)
class LogLaw:
    """NE(C) = NE_0 - eta * ln(C / C_0); one entry a draw.

    Attributes:
        ne_0: NE at C_0.
        eta: What a factor of e in FLOPs takes off the NE.
    """

    ne_0: Float[np.ndarray, "draws"]
    eta: Float[np.ndarray, "draws"]

    def predict(self, flops: float) -> Float[np.ndarray, "draws"]:
        """Return the NE at C = flops, by every draw."""
        return self.ne_0 - self.eta * math.log(flops / REFERENCE_FLOPS)


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """NE(C) = a + b (C / C_0)^-c; one entry a draw.

    Attributes:
        a: NE that no compute goes below.
        b: What is above it at C_0.
        c: Exponent.
    """

    a: Float[np.ndarray, "draws"]
    b: Float[np.ndarray, "draws"]
    c: Float[np.ndarray, "draws"]

    def predict(self, flops: float) -> Float[np.ndarray, "draws"]:
        """Return the NE at C = flops, by every draw."""
        return self.a + self.b * (flops / REFERENCE_FLOPS) ** -self.c


def fit_log_law(flops: Float[np.ndarray, "sizes"], ne: Float[np.ndarray, "draws sizes"]) -> LogLaw:
    """Fit by least squares, every size with the same weight.

    Args:
        flops: Forward FLOPs per example of the sizes.
        ne: NE of every size, one row a draw.

    Raises:
        ValueError: If there are fewer than two sizes.
    """
    _require_sizes(flops, 2)
    x = np.log(flops / REFERENCE_FLOPS)
    centered = x - x.mean()
    eta = -(ne @ centered) / (centered @ centered)
    return LogLaw(ne.mean(axis=1) + eta * x.mean(), eta)


def fit_power_law(
    flops: Float[np.ndarray, "sizes"], ne: Float[np.ndarray, "draws sizes"]
) -> PowerLaw:
    """Fit by least squares with a, b >= 0 and c within `EXPONENTS`.

    Given c, the law is linear in a and b; so c alone is searched for, on a grid that is refined
    around its best point. The arguments are those of `fit_log_law`.

    Raises:
        ValueError: If there are fewer than three sizes.
    """
    _require_sizes(flops, 3)
    center = math.exp(np.log(flops).mean())  # well conditioned for every c
    rows = np.arange(len(ne))
    low, high = (np.full(len(ne), math.log(bound)) for bound in EXPONENTS)
    a = b = best = np.zeros(len(ne))
    for count in _ROUNDS:
        grid = np.linspace(low, high, count, axis=1)
        x = np.exp(-np.exp(grid)[:, :, None] * np.log(flops / center))
        a, b, errors = _linear_part(x, ne[:, None, :])
        index = errors.argmin(axis=1)
        a, b, best = a[rows, index], b[rows, index], grid[rows, index]
        low = grid[rows, np.maximum(index - 1, 0)]
        high = grid[rows, np.minimum(index + 1, count - 1)]
    c = np.exp(best)
    return PowerLaw(a, b * (center / REFERENCE_FLOPS) ** c, c)


def _linear_part(
    x: Float[np.ndarray, "draws exponents sizes"], y: Float[np.ndarray, "draws 1 sizes"]
) -> tuple[
    Float[np.ndarray, "draws exponents"],
    Float[np.ndarray, "draws exponents"],
    Float[np.ndarray, "draws exponents"],
]:
    """Return a, b >= 0 of y = a + b x, and the squared error, for every exponent tried."""
    x_mean, y_mean = x.mean(axis=-1), y.mean(axis=-1)
    x_centered, y_centered = x - x_mean[..., None], y - y_mean[..., None]
    b = (x_centered * y_centered).sum(axis=-1) / (x_centered**2).sum(axis=-1)
    b = np.maximum(b, 0.0)
    a = y_mean - b * x_mean
    through_zero = np.maximum((x * y).sum(axis=-1) / (x**2).sum(axis=-1), 0.0)
    b = np.where(a < 0, through_zero, b)
    a = np.maximum(a, 0.0)
    errors = ((a[..., None] + b[..., None] * x - y) ** 2).sum(axis=-1)
    return a, b, errors


def _require_sizes(flops: np.ndarray, least: int) -> None:
    if len(np.unique(flops)) < least:
        raise ValueError(f"expected at least {least} sizes of different FLOPs, got {list(flops)}")
