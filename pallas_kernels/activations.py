"""The activations of GDPA, each together with its derivative.

Every activation has act(0) = 0, so a zero-padded key adds nothing to a row of GDPA and needs no
mask. A backward pass recomputes the scores and needs act and act' of them at once; the two share
their tanh, sigmoid or normal distribution, which is most of their cost, and so are written as one
function. Where only one of the two is used, the compiler drops the other.

Attributes:
    ACTIVATIONS: the names that `gdpa(activation=...)` takes.
"""

import math
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
    """The three functions that the activations are made of; a backend brings its own.

    Attributes:
        tanh: tanh x.
        sigmoid: 1 / (1 + exp(-x)).
        normal: the standard normal distribution: cumulative probability and density at x.
    """

    tanh: Callable[[Array], Array]
    sigmoid: Callable[[Array], Array]
    normal: Callable[[Array], tuple[Array, Array]]


def _normal(x: Array) -> tuple[Array, Array]:
    return 0.5 * (1.0 + jax.lax.erf(x * _SQRT_HALF)), _INV_SQRT_2PI * jnp.exp(-0.5 * x * x)


XLA = Transcendentals(tanh=jnp.tanh, sigmoid=jax.nn.sigmoid, normal=_normal)

ValueAndDerivative = tuple[Array, Array]


def _identity(x: Array, _: Transcendentals) -> ValueAndDerivative:
    return x, jnp.ones_like(x)


def _gelu(x: Array, maths: Transcendentals) -> ValueAndDerivative:
    probability, density = maths.normal(x)
    return x * probability, probability + x * density


def _gelu_tanh(x: Array, maths: Transcendentals) -> ValueAndDerivative:
    square = x * x
    inner = maths.tanh(x * (_TANH_SCALE + _TANH_SCALE * _TANH_CUBIC * square))
    slope = _TANH_SCALE + 3.0 * _TANH_SCALE * _TANH_CUBIC * square
    gate = 0.5 + 0.5 * inner
    return x * gate, gate + 0.5 * x * (1.0 - inner * inner) * slope


def _relu(x: Array, _: Transcendentals) -> ValueAndDerivative:
    return jnp.where(x > 0, x, 0.0), jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


def _relu_squared(x: Array, _: Transcendentals) -> ValueAndDerivative:
    positive = jnp.where(x > 0, x, 0.0)
    return positive * positive, 2.0 * positive


def _leaky_relu(x: Array, _: Transcendentals) -> ValueAndDerivative:
    slope = jnp.where(x > 0, 1.0, _LEAKY_SLOPE).astype(x.dtype)
    return slope * x, slope


def _silu(x: Array, maths: Transcendentals) -> ValueAndDerivative:
    gate = maths.sigmoid(x)
    return x * gate, gate + x * gate * (1.0 - gate)


def _hard_swish(x: Array, _: Transcendentals) -> ValueAndDerivative:
    value = x * (jnp.minimum(jnp.maximum(x + 3.0, 0.0), 6.0) * (1.0 / 6.0))
    middle = x * (1.0 / 3.0) + 0.5
    return value, jnp.where(x <= -3.0, 0.0, jnp.where(x >= 3.0, 1.0, middle))


_FUNCTIONS: dict[str, Callable[[Array, Transcendentals], ValueAndDerivative]] = {
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


def activate_with_derivative(
    x: Float[Array, "*shape"], name: str, maths: Transcendentals = XLA
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return act(x) and act'(x), elementwise.

    At the kink of relu and leaky_relu the derivative is the left one: 0 and 0.01.

    Args:
        x: any shape; computed in its dtype.
        name: one of `ACTIVATIONS`.
        maths: the functions of the backend that runs.

    Raises:
        ValueError: another name.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return _FUNCTIONS[name](x, maths)


def activate(
    x: Float[Array, "*shape"], name: str, maths: Transcendentals = XLA
) -> Float[Array, "*shape"]:
    """Return act(x); see `activate_with_derivative`."""
    return activate_with_derivative(x, name, maths)[0]
