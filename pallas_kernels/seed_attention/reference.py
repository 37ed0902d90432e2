"""Seed attention in XLA."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pallas_kernels.tiles import length_mask, zero_padding


def seed_attention_reference(
    seeds: Float[Array, "*B P N H"],
    key: Float[Array, "B S N H"],
    value: Float[Array, "B S N H"],
    lengths: Int[Array, " B"] | None,
) -> Float[Array, "B P N H"]:
    """Compute softmax(seeds K^T / sqrt(H)) V over the valid keys; softmax and sums in f32."""
    key, value = zero_padding(key, lengths), zero_padding(value, lengths)
    equation = "pnh,bsnh->bnps" if seeds.ndim == 3 else "bpnh,bsnh->bnps"
    scores = jnp.einsum(equation, seeds, key, preferred_element_type=jnp.float32)
    scores = scores * seeds.shape[-1] ** -0.5
    if lengths is not None:
        scores = jnp.where(length_mask(lengths, key.shape[1])[:, None, None], scores, -jnp.inf)
    top = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - jnp.where(jnp.isfinite(top), top, 0.0))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1.0)
    out = jnp.einsum(
        "bnps,bsnh->bpnh", weights.astype(value.dtype), value, preferred_element_type=jnp.float32
    )
    return out.astype(key.dtype)
