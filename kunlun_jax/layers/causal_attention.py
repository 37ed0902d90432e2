"""Causal softmax attention with rotated positions, over everything before or a window of it."""

import jax
import jax.numpy as jnp

from kunlun_jax.layers.causal_blocks import causal_blocks
from kunlun_jax.layers.model_products import causal_pairs, model_products
from kunlun_jax.layers.rote import rotate
from kunlun_jax.shapes import Array, Float


def causal_attention(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T N H"],
    value: Float[Array, "B T N H"],
    *,
    angles: Float[Array, "T H2"],
    window: int | None = None,
) -> Float[Array, "B T N H"]:
    """Return softmax_s(q_t . k_s / sqrt(H)) v_s over s <= t; softmax in float32.

    Padding stands at the end, where no real token looks.

    Args:
        query: Q, oldest token first.
        key: K.
        value: V.
        angles: Rotation of every token, in radian.
        window: Tokens before t that t sees beside itself; None: all.
    """
    query, key = rotate(query, angles), rotate(key, angles)
    scale, rows = query.shape[-1] ** -0.5, []
    _, num_tokens, num_heads, head_dim = query.shape
    with model_products(4 * num_heads * head_dim * causal_pairs(num_tokens, window)):
        for queries, keys, _, seen in causal_blocks(num_tokens, window):
            scores = scale * jnp.einsum(
                "btnh,bsnh->bnts",
                query[:, queries],
                key[:, keys],
                preferred_element_type=jnp.float32,
            )
            weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
            rows.append(jnp.einsum("bnts,bsnh->btnh", weights.astype(value.dtype), value[:, keys]))
    return jnp.concatenate(rows, axis=1)
