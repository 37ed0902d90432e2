"""GDPA in XLA: the definition, and what runs where no kernel applies."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pallas_kernels.activations import activate, activate_with_derivative
from pallas_kernels.batched import (
    merge_heads,
    rows_by_rows,
    split_heads,
    transposed_weights_by_rows,
    weights_by_rows,
    zero_padding,
)
from pallas_kernels.chunks import SCORE_BYTES, map_examples


def _definition(
    query: Float[Array, "BN T H"],
    key: Float[Array, "BN S H"],
    value: Float[Array, "BN S H"],
    scale_in: Float[Array, "BN 1 1"],
    activation: str,
) -> Float[Array, "BN T H"]:
    return _forward(query, key, value, scale_in, activation)[0]


def _forward(
    query: Array, key: Array, value: Array, scale_in: Array, activation: str
) -> tuple[Array, tuple[Array, ...]]:
    weights = activate(rows_by_rows(query, key) * scale_in, activation)
    return weights_by_rows(weights, value), (query, key, value, scale_in)


def _backward(activation: str, residuals: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    # Recomputing the scores costs one thin product; saving them would keep two [BN, T, S] arrays.
    # In one jitted step XLA sees that they are those of the forward pass and computes them once.
    query, key, value, scale_in = residuals
    weights, slopes = activate_with_derivative(rows_by_rows(query, key) * scale_in, activation)
    cotangent = cotangent.astype(value.dtype)
    d_scores = rows_by_rows(cotangent, value) * slopes
    # The scale goes to the thin results, so that its own gradient needs no [BN, T, S] pass.
    d_query = weights_by_rows(d_scores, key)
    d_key = transposed_weights_by_rows(d_scores, query) * scale_in
    d_value = transposed_weights_by_rows(weights, cotangent)
    d_scale = jnp.sum(d_query * query, axis=(1, 2), keepdims=True)
    return (
        (d_query * scale_in).astype(query.dtype),
        d_key.astype(key.dtype),
        d_value.astype(value.dtype),
        d_scale.astype(scale_in.dtype),
    )


_gdpa_groups = jax.custom_vjp(_definition, nondiff_argnums=(4,))
_gdpa_groups.defvjp(_forward, _backward)


def _gdpa_heads(query: Array, key: Array, value: Array, scale_in: Array, activation: str) -> Array:
    batch, _, heads, _ = query.shape
    scales = jnp.tile(scale_in, batch)[:, None, None]
    out = _gdpa_groups(merge_heads(query), merge_heads(key), merge_heads(value), scales, activation)
    return split_heads(out, heads)


def gdpa_reference(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S N H"],
    value: Float[Array, "B S N H"],
    query_lengths: Int[Array, " B"] | None,
    key_lengths: Int[Array, " B"] | None,
    activations: tuple[str, ...],
    scale_in: Float[Array, " N"],
    scale_out: float,
) -> Float[Array, "B T N H"]:
    """Compute act_n(s_in * Q_n K_n^T) V_n * s_out; scores, activation and sums in f32.

    See `pallas_kernels.gdpa.gdpa` for the arguments. The selects on the inputs keep NaN of the
    padding out of the products; the one on the output keeps a NaN cotangent of a padded row out of
    the gradients.
    """
    attend = partial(_attend, activations=activations, scale_in=scale_in, scale_out=scale_out)
    pairs = query.shape[1] * key.shape[1] * query.shape[2]
    arrays = (query, key, value, query_lengths, key_lengths)
    return map_examples(attend, *arrays, score_bytes=SCORE_BYTES * pairs)


def _attend(
    query: Array,
    key: Array,
    value: Array,
    query_lengths: Array | None,
    key_lengths: Array | None,
    *,
    activations: tuple[str, ...],
    scale_in: Array,
    scale_out: float,
) -> Array:
    query = zero_padding(query, query_lengths)
    key, value = zero_padding(key, key_lengths), zero_padding(value, key_lengths)
    names = sorted(set(activations))
    if len(names) == 1:
        out = _gdpa_heads(query, key, value, scale_in, names[0])
    else:
        of_name = [np.flatnonzero(np.array(activations) == name) for name in names]
        parts = [
            _gdpa_heads(
                query[:, :, heads], key[:, :, heads], value[:, :, heads], scale_in[heads], name
            )
            for name, heads in zip(names, of_name, strict=True)
        ]
        order = np.argsort(np.concatenate(of_name))
        out = jnp.concatenate(parts, axis=2)[:, :, order]
    return zero_padding((out * scale_out).astype(query.dtype), query_lengths)
