"""The activations of GDPA and their derivatives.

Every activation has act(0) = 0, so a zero-padded key adds nothing to a row of GDPA and needs no
mask. The derivatives are written out because the backward pass recomputes the scores and needs
act and act' of them together; XLA shares their common tanh, erf or sigmoid.

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
_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)

Function = Callable[[Array], Array]


def _identity(x: Array) -> Array:
    return x


def _d_identity(x: Array) -> Array:
    return jnp.ones_like(x)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + jax.lax.erf(x * _SQRT_HALF))


def _d_gelu(x: Array) -> Array:
    density = _INV_SQRT_2PI * jnp.exp(-0.5 * x * x)
    return 0.5 * (1.0 + jax.lax.erf(x * _SQRT_HALF)) + x * density


def _gelu_tanh_inner(x: Array) -> Array:
    return jnp.tanh(_TANH_SCALE * (x + _TANH_CUBIC * x * x * x))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + _gelu_tanh_inner(x))


def _d_gelu_tanh(x: Array) -> Array:
    inner = _gelu_tanh_inner(x)
    slope = _TANH_SCALE * (1.0 + 3.0 * _TANH_CUBIC * x * x)
    return 0.5 * (1.0 + inner) + 0.5 * x * (1.0 - inner * inner) * slope


def _relu(x: Array) -> Array:
    return jnp.where(x > 0, x, 0.0)


def _d_relu(x: Array) -> Array:
    return jnp.where(x > 0, 1.0, 0.0).astype(x.dtype)


def _relu_squared(x: Array) -> Array:
    return jnp.where(x > 0, x * x, 0.0)


def _d_relu_squared(x: Array) -> Array:
    return jnp.where(x > 0, 2.0 * x, 0.0)


def _leaky_relu(x: Array) -> Array:
    return jnp.where(x > 0, x, _LEAKY_SLOPE * x)


def _d_leaky_relu(x: Array) -> Array:
    return jnp.where(x > 0, 1.0, _LEAKY_SLOPE).astype(x.dtype)


def _silu(x: Array) -> Array:
    return x * jax.nn.sigmoid(x)


def _d_silu(x: Array) -> Array:
    gate = jax.nn.sigmoid(x)
    return gate + x * gate * (1.0 - gate)


def _hard_swish(x: Array) -> Array:
    return x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0


def _d_hard_swish(x: Array) -> Array:
    return jnp.where(x <= -3.0, 0.0, jnp.where(x >= 3.0, 1.0, x / 3.0 + 0.5))


_FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "identity": (_identity, _d_identity),
    "gelu": (_gelu, _d_gelu),
    "gelu_tanh": (_gelu_tanh, _d_gelu_tanh),
    "relu": (_relu, _d_relu),
    "relu_squared": (_relu_squared, _d_relu_squared),
    "leaky_relu": (_leaky_relu, _d_leaky_relu),
    "silu": (_silu, _d_silu),
    "hard_swish": (_hard_swish, _d_hard_swish),
}

ACTIVATIONS: tuple[str, ...] = tuple(_FUNCTIONS)


def activate(x: Float[Array, "..."], name: str) -> Float[Array, "..."]:
    """Apply the activation elementwise.

    Args:
        x: any shape; computed in its dtype.
        name: one of `ACTIVATIONS`.

    Raises:
        ValueError: another name.
    """
    return _lookup(name)[0](x)


def activation_derivative(x: Float[Array, "..."], name: str) -> Float[Array, "..."]:
    """Return act'(x). At the kink of relu and leaky_relu it is the left one: 0 and 0.01.

    Args:
        x: any shape; computed in its dtype.
        name: one of `ACTIVATIONS`.

    Raises:
        ValueError: another name.
    """
    return _lookup(name)[1](x)


def _lookup(name: str) -> tuple[Function, Function]:
    if name not in _FUNCTIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return _FUNCTIONS[name]
