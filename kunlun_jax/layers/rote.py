"""ROTE, rotary temporal embedding (docs/model.md#rote): rotation angles from position and time.

    tau_t = log(1 + dt_t / t_scale)
    angle_{t,i} = pos_t * theta_i + tau_t * phi_i,   theta_i = base^(-2i/H),  phi_i = base_t^(-2i/H)

This module makes tau, theta and phi; the rotation of queries and keys happens inside
`window_attention`, where a kernel can fuse it. `rotate` is for attention that has no kernel.
"""

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.config import ROTEConfig
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float, Int


def log_time(seconds: Int[Array, "*shape"], config: ROTEConfig) -> Float[Array, "*shape"]:
    """Return log(1 + dt / t_scale) in float32.

    Args:
        seconds: dt. Negative ones are errors of the data, refused when a data set is built; here
            they count as 0.
        config: The scale of time.
    """
    return jnp.log1p(jnp.maximum(seconds, 0).astype(jnp.float32) / config.time_scale)


def log_gaps(ages: Int[Array, "B T"], config: ROTEConfig) -> Float[Array, "B T"]:
    """Return tau, the logarithm of what the time angle measures.

    Args:
        ages: Seconds from each event to the request.
        config: Which gap is meant, and the scale of time.

    Returns:
        tau >= 0 in float32.
    """
    if config.gaps == "positions_only":
        return jnp.zeros(ages.shape, jnp.float32)
    if config.gaps == "adjacent":
        before = jnp.concatenate([ages[:, :1], ages[:, :-1]], axis=1)
        return log_time(before - ages, config)
    return log_time(ages, config)


def frequencies(head_dim: int, base: float) -> Float[Array, "H2"]:
    """Return base^(-2i/H) for the H/2 pairs of a head."""
    return base ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)


def rotate(x: Float[Array, "B T N H"], angles: Float[Array, "T H2"]) -> Float[Array, "B T N H"]:
    """Rotate the pairs (x[i], x[i + H/2]) of every head, in float32.

    Args:
        x: Queries or keys.
        angles: In radian, the same for all examples.
    """
    sin, cos = (f(angles)[:, None, :] for f in (jnp.sin, jnp.cos))
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


class TimeFrequencies(nn.Module):
    """The frequencies phi of the time angle, constant or learned.

    Attributes:
        head_dim: Width H of a head.
        config: Base, and whether they are learned.
    """

    head_dim: int
    config: ROTEConfig

    @nn.compact
    def __call__(self) -> Float[Array, "H2"]:
        """Return phi, in float32."""
        start = frequencies(self.head_dim, self.config.time_base)
        if not self.config.learnable or self.config.gaps == "positions_only":
            return start
        return parameter(
            self, "time_frequencies", lambda key, shape: start, ("head_dim",), start.shape
        )
