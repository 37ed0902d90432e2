"""The activations of GDPA and their derivatives.

Every activation has act(0) = 0, so a zero-padded key adds nothing to a row of GDPA and needs no
mask.

Attributes:
    ACTIVATIONS: the names that `gdpa(activation=...)` takes.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LEAKY_SLOPE = 0.01
_TANH_SCALE = math.sqrt(2.0 / math.pi)
_TANH_CUBIC = 0.044715


def _identity(x: Array) -> Array:
    return x


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + jnp.tanh(_TANH_SCALE * (x + _TANH_CUBIC * x * x * x)))


def _relu(x: Array) -> Array:
    return jnp.where(x > 0, x, 0.0)


def _relu_squared(x: Array) -> Array:
    return jnp.where(x > 0, x * x, 0.0)


def _leaky_relu(x: Array) -> Array:
    return jnp.where(x > 0, x, _LEAKY_SLOPE * x)


def _silu(x: Array) -> Array:
    return x * jax.nn.sigmoid(x)


def _hard_swish(x: Array) -> Array:
    return x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
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


def activate(x: Float[Array, "..."], name: str) -> Float[Array, "..."]:
    """Apply the activation `name` elementwise.

    Raises:
        ValueError: `name` is not one of `ACTIVATIONS`.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return _FUNCTIONS[name](x)
