"""Normalisations without parameters."""

import jax
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Float

EPSILON = 1e-5


def layer_norm(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Shift and scale the last axis to mean 0 and variance 1; statistics in float32."""
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + EPSILON)).astype(x.dtype)


def rms_norm(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Scale the last axis to mean square 1; statistics in float32."""
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(mean_square + EPSILON)).astype(x.dtype)
