"""Window attention in XLA: banded, O(T w) in time and memory."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pallas_kernels.tiles import zero_padding


def _softmax_weights(scores: Array, valid: Array) -> Array:
    scores = jnp.where(valid, scores, -jnp.inf)
    top = jnp.max(scores, axis=-1, keepdims=True)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)


def window_attention_reference(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T N H"],
    value: Float[Array, "B T N H"],
    lengths: Int[Array, " B"] | None,
    window_size: int,
) -> Float[Array, "B T N H"]:
    """Compute softmax(Q_t K_[t-w,t+w]^T / sqrt(H)) V_[t-w,t+w]; softmax and sums in f32."""
    batch, time, heads, dim = query.shape
    query = zero_padding(query, lengths)
    key, value = zero_padding(key, lengths), zero_padding(value, lengths)
    window = min(window_size, max(time - 1, 0))
    block = time if window * 3 >= time else max(window, 1)
    halo = min(window, time - 1) if block < time else 0
    num_blocks = -(-time // block)
    padded = num_blocks * block

    def banded(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (halo, padded - time + halo), (0, 0), (0, 0)))
        parts = [x[:, : num_blocks * block].reshape(batch, num_blocks, block, heads, dim)]
        if halo:
            tail = x[:, block:]
            tail = jnp.pad(tail, ((0, 0), (0, max(0, padded - tail.shape[1])), (0, 0), (0, 0)))
            tail = tail[:, :padded].reshape(batch, num_blocks, block, heads, dim)
            parts.append(tail)
            rest = x[:, 2 * block :]
            rest = jnp.pad(rest, ((0, 0), (0, max(0, padded - rest.shape[1])), (0, 0), (0, 0)))
            parts.append(rest[:, :padded].reshape(batch, num_blocks, block, heads, dim))
        return jnp.concatenate(parts, axis=2)[:, :, : block + 2 * halo]

    blocked_query = jnp.pad(query, ((0, 0), (0, padded - time), (0, 0), (0, 0)))
    blocked_query = blocked_query.reshape(batch, num_blocks, block, heads, dim)
    blocked_key, blocked_value = banded(key), banded(value)
    t = jnp.arange(padded).reshape(num_blocks, block, 1)
    s = jnp.arange(num_blocks)[:, None, None] * block - halo + jnp.arange(block + 2 * halo)
    valid = (abs(t - s) <= window) & (s >= 0) & (s < time) & (t < time)
    valid = valid[None]
    if lengths is not None:
        bound = lengths[:, None, None, None]
        valid = valid & (s < bound) & (t < bound)
    scores = jnp.einsum(
        "bcinh,bcjnh->bncij", blocked_query, blocked_key, preferred_element_type=jnp.float32
    )
    weights = _softmax_weights(scores * dim**-0.5, valid[:, None])
    out = jnp.einsum(
        "bncij,bcjnh->bcinh",
        weights.astype(value.dtype),
        blocked_value,
        preferred_element_type=jnp.float32,
    )
    return out.reshape(batch, padded, heads, dim)[:, :time].astype(query.dtype)
