"""Rotary embedding of query and key (ROTE): angles, their sines and cosines, the rotation."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from pallas_kernels.batched import length_mask


def rotation_angles(
    positions: Num[Array, "B T"] | None,
    times: Num[Array, "B T"] | None,
    position_frequencies: Float[Array, " H2"] | None,
    time_frequencies: Float[Array, " H2"] | None,
    lengths: Int[Array, " B"] | None,
) -> Float[Array, "B T H2"] | None:
    """Return ROTE's angles, positions * theta_i + times * phi_i, in f32; None without either.

    The angles of padded rows are 0, and what stands in their positions and times reaches neither
    the angles nor the gradients of the frequencies.
    """
    angles = None
    for values, frequencies in (
        (positions, position_frequencies),
        (times, time_frequencies),
    ):
        if values is None or frequencies is None:
            continue
        if lengths is not None:
            values = jnp.where(length_mask(lengths, values.shape[1]), values, 0)
        part = values.astype(jnp.float32)[..., None] * frequencies.astype(jnp.float32)
        angles = part if angles is None else angles + part
    return angles


def rotation_table(
    angles: Float[Array, "*rows H2"],
) -> tuple[Float[Array, "*rows H2"], Float[Array, "*rows H2"]]:
    """Return the sine and cosine of the angles as arrays that exist in memory.

    XLA's CPU backend would otherwise compute the polynomials of `sin_cos` anew inside every copy,
    transposition and gather that reads a rotated array, unvectorised (measured: window attention
    over 2 heads takes twice as long). A product is the one operation that it never fuses into a
    reader, and one with the identity matrix is exact.
    """
    table = jnp.concatenate(sin_cos(angles), axis=-1)
    identity = jnp.eye(table.shape[-1], dtype=table.dtype)
    table = jnp.matmul(table, identity, precision=jax.lax.Precision.HIGHEST)
    sin, cos = jnp.split(table, 2, axis=-1)
    return sin, cos


def rotate(
    x: Float[Array, "B T N H"], sin: Float[Array, "B T H2"], cos: Float[Array, "B T H2"]
) -> Float[Array, "B T N H"]:
    """Rotate the pairs (x[i], x[i + H/2]) of every head by the same angles; returns x's dtype.

    The half-split pairing needs two contiguous slices; interleaved pairs (x[2i], x[2i+1]) would
    need strided ones. The two differ by a fixed permutation of the projections' columns.
    """
    sin, cos = sin[:, :, None, :], cos[:, :, None, :]
    first, second = jnp.split(x.astype(sin.dtype), 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def rotate_for_scores(
    x: Float[Array, "B T N H"],
    angles: Float[Array, "B T H2"],
    sin: Float[Array, "B T H2"],
    cos: Float[Array, "B T H2"],
    scale: float,
) -> Float[Array, "B T N H"]:
    """Return scale * rotate(x), rounded once to what x's dtype holds, as f32.

    The gradient of an angle is a db - b da, summed over heads, of the rounded pair (a, b) and the
    f32 gradient (da, db) of it. A pair of rows changes a score by the difference of their angles,
    so that in the gradient of a frequency positions far from 0 cancel: but only if query and key
    credit the pair with the very same change, which means of the same rounded rows.

    Args:
        x: queries or keys.
        angles: in radian; where their gradient goes.
        sin: of the angles; not differentiated.
        cos: likewise.
        scale: a factor.
    """
    return _rotate_for_scores(x, angles, sin, cos, scale)[0]


def _rotate_for_scores(
    x: Array, angles: Array, sin: Array, cos: Array, scale: float
) -> tuple[Array, tuple[Array, ...]]:
    del angles
    rounded = (scale * rotate(x.astype(sin.dtype), sin, cos)).astype(x.dtype)
    return rounded.astype(sin.dtype), (rounded, sin, cos)


def _rotate_for_scores_vjp(
    scale: float, saved: tuple[Array, ...], cotangent: Array
) -> tuple[Array | None, ...]:
    rounded, sin, cos = saved
    a, b = jnp.split(rounded.astype(sin.dtype), 2, axis=-1)
    da, db = jnp.split(cotangent, 2, axis=-1)
    dx = (scale * rotate(cotangent, -sin, cos)).astype(rounded.dtype)
    return dx, jnp.sum(a * db - b * da, axis=2), None, None


rotate_for_scores.defvjp(_rotate_for_scores, _rotate_for_scores_vjp)


# pi/2 in parts of 8 bits, so that k times each but the last is exact in f32 up to |k| < 2^16, and
# fits of (sin r / r - 1) / r^2 and (cos r - 1 + r^2 / 2) / r^4, |r| <= pi/4.
_PI_2 = (1.5703125, 4.825592041015625e-4, 1.2665987014770508e-6, 9.920935796805404e-10)
_SIN = (-1.666666454e-1, 8.332725119e-3, -1.958291726e-4)
_COS = (4.166666454e-2, -1.388827977e-3, 2.454294775e-5)
# Beyond 2^16 quarter turns: 2/pi in parts of 12 bits. A part times one of the two halves of a
# number is exact, and so is what whole turns leave of the product.
_2_PI = tuple(
    float.fromhex(text)
    for text in ("0x1.45ep-1", "0x1.306p-13", "0x1.b92p-26", "0x1.91p-38", "0x1.528p-52")
)
_MANY = 1e5
MAX_ANGLE = 2.0**31


@jax.custom_jvp
def sin_cos(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return sin x and cos x of f32; absolute error below 3e-7 up to 1e5, 1e-5 up to 2^31.

    NaN beyond: there f32 holds no angle, its numbers being 256 rad apart. So are those of a sum of
    such angles: raw seconds are no input for ROTE, and ask for log(1 + dt / scale).

    XLA's CPU backend calls a scalar routine for each sine and cosine, 13 times slower than this
    pair of polynomials; with T * H/2 angles an example that would cost half of the attention.
    """
    quarter = jnp.round(x * (2.0 / jnp.pi))
    r = x
    for part in _PI_2:
        r = r - quarter * part
    many = jnp.abs(x) > _MANY
    turns = _quarter_turns(x)
    r = jnp.where(many, (turns - jnp.round(turns)) * (0.5 * jnp.pi), r)
    quarter = jnp.where(many, jnp.round(turns), quarter)
    z = r * r
    sin = r + r * z * (_SIN[0] + z * (_SIN[1] + z * _SIN[2]))
    cos = 1.0 - 0.5 * z + z * z * (_COS[0] + z * (_COS[1] + z * _COS[2]))
    sin = jnp.where(jnp.abs(x) <= MAX_ANGLE, sin, jnp.nan)
    cos = jnp.where(jnp.abs(x) <= MAX_ANGLE, cos, jnp.nan)
    turn = quarter.astype(jnp.int32)
    swap = (turn & 1) == 1
    sin, cos = jnp.where(swap, cos, sin), jnp.where(swap, sin, cos)
    return (
        jnp.where((turn & 2) == 2, -sin, sin),
        jnp.where(((turn + 1) & 2) == 2, -cos, cos),
    )


def _quarter_turns(x: Array) -> Array:
    """Return x / (pi/2), less whole turns; for f32 numbers too large for a division."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    high = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFF000), jnp.float32)
    total = jnp.zeros_like(high)
    for half in (high, x - high):
        for part in _2_PI:
            product = half * part
            total += product - 4.0 * jnp.round(0.25 * product)
    return total


@sin_cos.defjvp
def _sin_cos_jvp(primals: tuple, tangents: tuple) -> tuple:
    sin, cos = sin_cos(primals[0])
    return (sin, cos), (cos * tangents[0], -sin * tangents[0])
