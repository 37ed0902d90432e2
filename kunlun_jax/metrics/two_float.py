"""Sums of twice float32's precision, on device, without float64.

A value is the unevaluated sum of two float32 numbers (double-single arithmetic), about 48 bits.
Plain float32 stops counting at 2^24 and loses digits of every long sum, and jax has no float64
unless it is switched on for the whole process.
"""

from typing import no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.shapes import Array, Float


# A pytree holds anything while jax maps over it (shapes, shardings), so it is not checked.
@no_type_check
@flax.struct.dataclass
class TwoFloatSum:
    """A running sum.

    Attributes:
        high: The sum, rounded to float32.
        low: What the rounding left out.
    """

    high: Float[Array, "..."]
    low: Float[Array, "..."]


def zeros(*shape: int) -> TwoFloatSum:
    """Return sums over nothing; two arrays, so that a jitted step may donate both."""
    return TwoFloatSum(high=jnp.zeros(shape), low=jnp.zeros(shape))


def from_float32(value: Float[Array, "..."]) -> TwoFloatSum:
    """Return the value of float32 numbers, unchanged."""
    return TwoFloatSum(high=value, low=jnp.zeros_like(value))


def add(a: TwoFloatSum, b: TwoFloatSum) -> TwoFloatSum:
    """Return a + b: Knuth's two-sum, whose rounding error goes to the low part."""
    high = a.high + b.high
    b_part = high - a.high
    error = (a.high - (high - b_part)) + (b.high - b_part)
    low = error + (a.low + b.low)
    total = high + low
    return TwoFloatSum(high=total, low=low - (total - high))


def sum_last(values: Float[Array, "... B"]) -> TwoFloatSum:
    """Return the sum over the last axis, every addition a two-sum.

    The compiler may take the additions in any order, and over devices: the order moves the
    result by about 2^-48 of it.
    """

    def add_parts(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        total = add(TwoFloatSum(*a), TwoFloatSum(*b))
        return total.high, total.low

    zero = np.float32(0)
    operands = (values, jnp.zeros_like(values))
    return TwoFloatSum(*jax.lax.reduce(operands, (zero, zero), add_parts, (values.ndim - 1,)))


def value(total: TwoFloatSum) -> Float[np.ndarray, "..."]:
    """Return the sum in float64, on host."""
    high, low = jax.device_get((total.high, total.low))
    return np.asarray(np.asarray(high, np.float64) + np.asarray(low, np.float64))
