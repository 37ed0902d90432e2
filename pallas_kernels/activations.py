"""The activations of GDPA, each together with its derivative.

Every activation has act(0) = 0, so a zero-padded key adds nothing to a row of GDPA and needs no
mask. A backward pass recomputes the scores and needs act and act' of them at once; the two share
their tanh, sigmoid or normal distribution, which is most of their cost, and so are written as one
function. Where only one of the two is used, the compiler drops the other.

Attributes:
    ACTIVATIONS: the names that `gdpa(activation=...)` takes.
    TRANSCENDENTAL: those that need a tanh, a sigmoid or a normal distribution, one of each score.
"""

import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LEAKY_SLOPE = 0.01
_TANH_SCALE = math.sqrt(2.0 / math.pi)
_TANH_CUBIC = 0.044715
_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


class Transcendentals(NamedTuple):
    """The functions that the activations are made of; a backend brings its own.

    Attributes:
        tanh: tanh x.
        sigmoid: 1 / (1 + exp(-x)).
        normal: the standard normal distribution: cumulative probability and density at x.
        fma: x * y + z; XLA forbids the compiler of a kernel to join the two by itself.
        mul: x * y.
    """

    tanh: Callable[[Array], Array]
    sigmoid: Callable[[Array], Array]
    normal: Callable[[Array], tuple[Array, Array]]
    fma: Callable[[Array, Array | float, Array | float], Array]
    mul: Callable[[Array, Array | float], Array]


def _normal(x: Array) -> tuple[Array, Array]:
    return 0.5 * (1.0 + jax.lax.erf(x * _SQRT_HALF)), _INV_SQRT_2PI * jnp.exp(-0.5 * x * x)


def _multiply_add(x: Array, y: Array | float, z: Array | float) -> Array:
    return x * y + z


XLA = Transcendentals(
    tanh=jnp.tanh, sigmoid=jax.nn.sigmoid, normal=_normal, fma=_multiply_add, mul=operator.mul
)

ValueAndDerivative = tuple[Array, Array]
Scale = Array | float


def _identity(x: Array, scale: Scale, _: Transcendentals) -> ValueAndDerivative:
    return _scaled(x, scale), jnp.ones_like(x)


def _gelu(x: Array, scale: Scale, maths: Transcendentals) -> ValueAndDerivative:
    x = _scaled(x, scale)
    probability, density = maths.normal(x)
    return x * probability, maths.fma(x, density, probability)


def _gelu_tanh(x: Array, scale: Scale, maths: Transcendentals) -> ValueAndDerivative:
    # With y = scale x: tanh(u) of u = y (c + d y^2), and -y / 2 times u's slope, which is
    # -y (c + 3 d y^2) / 2, for a factor tanh^2 - 1: 1 - tanh^2 would be an instruction more. The
    # scale goes into the coefficients, which are numbers of the whole tile.
    linear, cubic = scale * _TANH_SCALE, scale * scale * scale * (_TANH_SCALE * _TANH_CUBIC)
    x_squared = maths.mul(x, x)
    inner = maths.tanh(maths.mul(x, maths.fma(x_squared, cubic, linear)))
    half = maths.mul(x, 0.5 * scale)
    slope = maths.mul(x, maths.fma(x_squared, -1.5 * cubic, -0.5 * linear))
    rest = maths.fma(inner, inner, -1.0)
    return (
        maths.fma(half, inner, half),
        maths.fma(slope, rest, maths.fma(inner, 0.5, 0.5)),
    )


def _relu(x: Array, scale: Scale, _: Transcendentals) -> ValueAndDerivative:
    x = _scaled(x, scale)
    return jnp.where(x > 0, x, 0.0), jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


def _relu_squared(x: Array, scale: Scale, _: Transcendentals) -> ValueAndDerivative:
    x = _scaled(x, scale)
    positive = jnp.where(x > 0, x, 0.0)
    return positive * positive, 2.0 * positive


def _leaky_relu(x: Array, scale: Scale, _: Transcendentals) -> ValueAndDerivative:
    x = _scaled(x, scale)
    slope = jnp.where(x > 0, 1.0, _LEAKY_SLOPE).astype(x.dtype)
    return slope * x, slope


def _silu(x: Array, scale: Scale, maths: Transcendentals) -> ValueAndDerivative:
    x = _scaled(x, scale)
    gate = maths.sigmoid(x)
    value = x * gate
    return value, maths.fma(value, 1.0 - gate, gate)


def _hard_swish(x: Array, scale: Scale, maths: Transcendentals) -> ValueAndDerivative:
    x = _scaled(x, scale)
    value = x * (jnp.minimum(jnp.maximum(x + 3.0, 0.0), 6.0) * (1.0 / 6.0))
    middle = maths.fma(x, 1.0 / 3.0, 0.5)
    return value, jnp.where(x <= -3.0, 0.0, jnp.where(x >= 3.0, 1.0, middle))


def _scaled(x: Array, scale: Scale) -> Array:
    return x if isinstance(scale, float) and scale == 1.0 else x * scale


_FUNCTIONS: dict[str, Callable[[Array, Scale, Transcendentals], ValueAndDerivative]] = {
    "identity": _identity,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "relu_squared": _relu_squared,
    "leaky_relu": _leaky_relu,
    "silu": _silu,
    "hard_swish": _hard_swish,
}

ACTIVATIONS: tuple[str, ...] = tuple(_FUNCTIONS)
TRANSCENDENTAL: frozenset[str] = frozenset({"gelu", "gelu_tanh", "silu"})


def activate_with_derivative(
    x: Float[Array, "*shape"],
    name: str,
    maths: Transcendentals = XLA,
    *,
    scale: Float[Array, ""] | float = 1.0,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return act(y) and act'(y) at y = scale * x, elementwise.

    At the kink of relu and leaky_relu the derivative is the left one: 0 and 0.01.

    Args:
        x: any shape; computed in its dtype.
        name: one of `ACTIVATIONS`.
        maths: the functions of the backend that runs.
        scale: one factor for all; where it can go into the coefficients it costs nothing.

    Raises:
        ValueError: another name.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return _FUNCTIONS[name](x, scale, maths)


def activate(
    x: Float[Array, "*shape"],
    name: str,
    maths: Transcendentals = XLA,
    *,
    scale: Float[Array, ""] | float = 1.0,
) -> Float[Array, "*shape"]:
    """Return act(scale * x); see `activate_with_derivative`."""
    return activate_with_derivative(x, name, maths, scale=scale)[0]
