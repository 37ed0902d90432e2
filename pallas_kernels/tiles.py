"""Maths of one tile, shared by the references and the kernels: masks and rotation."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num


def length_mask(lengths: Int[Array, " B"], size: int) -> Bool[Array, "B {size}"]:
    """Return which of `size` rows are real: row t of example b is when t < lengths[b]."""
    return jnp.arange(size)[None, :] < lengths[:, None]


def zero_padding(
    x: Float[Array, "B T N H"], lengths: Int[Array, " B"] | None
) -> Float[Array, "B T N H"]:
    """Replace the rows beyond each length by zeros.

    A select on the input keeps NaN of the padding out of the value and out of the gradient; a
    product with the mask would not.
    """
    if lengths is None:
        return x
    return jnp.where(length_mask(lengths, x.shape[1])[:, :, None, None], x, 0)


def rotation_angles(
    positions: Num[Array, "B T"] | None,
    times: Num[Array, "B T"] | None,
    position_frequencies: Float[Array, " H2"] | None,
    time_frequencies: Float[Array, " H2"] | None,
) -> Float[Array, "B T H2"] | None:
    """Return ROTE's angles, positions * theta_i + times * phi_i, in f32; None without either."""
    angles = None
    for values, frequencies in (
        (positions, position_frequencies),
        (times, time_frequencies),
    ):
        if values is None or frequencies is None:
            continue
        part = values.astype(jnp.float32)[:, :, None] * frequencies.astype(jnp.float32)
        angles = part if angles is None else angles + part
    return angles


def rotate(
    x: Float[Array, "B T N H"], angles: Float[Array, "B T H2"]
) -> Float[Array, "B T N H"]:
    """Rotate the pairs (x[i], x[i + H/2]) of every head by angles[i], in f32.

    The half-split pairing needs two contiguous slices; interleaved pairs (x[2i], x[2i+1]) would
    need strided ones. The two differ by a fixed permutation of the projections' columns.
    """
    cos, sin = jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
