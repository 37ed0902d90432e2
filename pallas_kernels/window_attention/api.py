"""The public function of window attention."""

import jax.numpy as jnp
from jaxtyping import Array

from pallas_kernels.tiles import rotate, rotation_angles
from pallas_kernels.validation import (
    check_floating,
    check_lengths,
    check_shape,
    resolve_implementation,
)
from pallas_kernels.window_attention.reference import window_attention_reference


def window_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    lengths: Array | None = None,
    window_size: int,
    positions: Array | None = None,
    times: Array | None = None,
    position_frequencies: Array | None = None,
    time_frequencies: Array | None = None,
    implementation: str | None = None,
) -> Array:
    """Compute multi-head sliding-window self-attention (Kunlun; spec section 3.3)."""
    batch, time, heads, dim = query.shape
    angles = rotation_angles(positions, times, position_frequencies, time_frequencies)
    if lengths is not None and angles is not None:
        angles = jnp.where(jnp.arange(time)[None, :, None] < lengths[:, None, None], angles, 0.0)
    if angles is not None:
        query, key = rotate(query, angles), rotate(key, angles)
    check_floating({"query": query, "key": key, "value": value})
    check_lengths("lengths", lengths, batch)
    check_shape("key", key, query.shape, "[B, T, N, H] of query")
    resolve_implementation(implementation)
    return window_attention_reference(query, key, value, lengths, window_size)
