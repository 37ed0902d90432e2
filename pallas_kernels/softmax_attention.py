"""Softmax attention on [BN, M, H] in XLA, with its backward pass; window and seeds build on it."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from pallas_kernels.batched import rows_by_rows, transposed_weights_by_rows, weights_by_rows
from pallas_kernels.chunks import SAVED

# Added to the score of a masked pair. Finite, so that a row of masked pairs alone stays finite
# (`row_valid` zeroes it), and beyond any score, so that exp() of it is exactly 0.
MASKED = -1e30


@jax.custom_vjp
def softmax_attention(
    query: Float[Array, "BN M H"],
    key: Float[Array, "BN S H"],
    value: Float[Array, "BN S H"],
    key_bias: Float[Array, "BN 1 S"],
    pair_bias: Float[Array, "#M S"],
    row_valid: Bool[Array, "BN M 1"],
) -> Float[Array, "BN M H"]:
    """Compute softmax(Q K^T + bias) V; scores, softmax and sums in f32, the result f32.

    Masks come as two biases that broadcast, one of the keys and one that all groups share: XLA's
    CPU backend fuses product, sum, maximum and exponential into one call, which a select would
    split. Normalisation is left to the end, on M x H instead of M x S numbers. The backward pass
    makes the weights again, and reads the saved results and the inverse of each row's sum.

    Args:
        query: already scaled; free of NaN, as are key and value.
        key: one row per key.
        value: one row per key. Its dtype is that of all products: f32 queries and keys beside a
            bf16 value are rounded for them, and get f32 gradients.
        key_bias: 0, or `MASKED` for a key that no row may see. No gradient.
        pair_bias: 0, or `MASKED` for a pair that is out of reach. No gradient.
        row_valid: rows that are False give 0 and send no gradient. The others must see a key.

    Returns:
        f32 (f64 for f64 inputs).
    """
    return _forward(query, key, value, key_bias, pair_bias, row_valid)[0]


def _weights(query: Array, key: Array, key_bias: Array, pair_bias: Array) -> Array:
    scores = rows_by_rows(query, key) + key_bias + pair_bias
    return jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))


def _forward(
    query: Array, key: Array, value: Array, key_bias: Array, pair_bias: Array, row_valid: Array
) -> tuple[Array, tuple[Array, ...]]:
    rounded = query.astype(value.dtype), key.astype(value.dtype)
    weights = _weights(*rounded, key_bias, pair_bias)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    inverse = checkpoint_name(jnp.where(row_valid, 1.0 / total, 0.0), SAVED)
    out = checkpoint_name(weights_by_rows(weights, value) * inverse, SAVED)
    return out, (query, key, value, key_bias, pair_bias, row_valid, out, inverse)


def _backward(residuals: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    query, key, value, key_bias, pair_bias, row_valid, out, inverse = residuals
    dtypes = query.dtype, key.dtype
    query, key = query.astype(value.dtype), key.astype(value.dtype)
    weights = _weights(query, key, key_bias, pair_bias)
    # A select, because the cotangent of a padded row may be NaN. Rounded before both uses, so that
    # the gradients of a row's scores still sum to 0 in bf16.
    cotangent = jnp.where(row_valid, cotangent * inverse, 0.0).astype(value.dtype)
    delta = jnp.sum(cotangent * out, axis=-1, keepdims=True)
    d_scores = weights * (rows_by_rows(cotangent, value) - delta)
    return (
        weights_by_rows(d_scores, key).astype(dtypes[0]),
        transposed_weights_by_rows(d_scores, query).astype(dtypes[1]),
        transposed_weights_by_rows(weights, cotangent).astype(value.dtype),
        None,
        None,
        None,
    )


softmax_attention.defvjp(_forward, _backward)
