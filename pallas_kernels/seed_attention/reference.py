"""Seed attention in XLA: the definition, and what runs where no kernel applies."""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pallas_kernels.batched import length_mask, merge_heads, split_heads, zero_padding
from pallas_kernels.chunks import SCORE_BYTES, map_examples
from pallas_kernels.softmax_attention import MASKED, softmax_attention


def seed_attention_reference(
    seeds: Float[Array, "*B P N H"],
    key: Float[Array, "B S N H"],
    value: Float[Array, "B S N H"],
    lengths: Int[Array, " B"] | None,
) -> Float[Array, "B P N H"]:
    """Compute softmax(seeds K^T / sqrt(H)) V over the valid keys; softmax and sums in f32.

    See `pallas_kernels.seed_attention.seed_attention` for the arguments. Shared seeds are repeated
    for every example: measured faster on CPUs than one tall product over the batch, whose scores
    would have the seeds along the contiguous axis.
    """
    score_bytes = SCORE_BYTES * seeds.shape[-3] * key.shape[1] * key.shape[2]
    if seeds.ndim == 3:
        attend = partial(_attend, seeds)
        return map_examples(attend, key, value, lengths, score_bytes=score_bytes)
    return map_examples(_attend, seeds, key, value, lengths, score_bytes=score_bytes)


def _attend(seeds: Array, key: Array, value: Array, lengths: Array | None) -> Array:
    batch, keys, heads, dim = key.shape
    query = (seeds * dim**-0.5).astype(seeds.dtype)
    query = merge_heads(jnp.broadcast_to(query, (batch, *query.shape[-3:])))
    if lengths is None:
        lengths = jnp.full((batch,), keys, jnp.int32)
    else:
        key, value = zero_padding(key, lengths), zero_padding(value, lengths)
    valid = jnp.repeat(length_mask(lengths, keys), heads, axis=0)[:, None, :]
    row_valid = jnp.repeat(lengths > 0, heads)[:, None, None]
    out = softmax_attention(
        query,
        merge_heads(key),
        merge_heads(value),
        jnp.where(valid, 0.0, MASKED),
        jnp.zeros((1, keys)),
        jnp.broadcast_to(row_valid, (batch * heads, query.shape[1], 1)),
    )
    return split_heads(out.astype(value.dtype), heads)
