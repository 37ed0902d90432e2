"""GDPA in XLA: the definition, and what runs where no kernel applies."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pallas_kernels.activations import activate
from pallas_kernels.tiles import zero_padding


def _activate_heads(scores: Array, activations: tuple[str, ...]) -> Array:
    if len(set(activations)) == 1:
        return activate(scores, activations[0])
    heads = [activate(scores[:, n], name) for n, name in enumerate(activations)]
    return jnp.stack(heads, axis=1)


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
    """Compute act_n(s_in * Q_n K_n^T) V_n * s_out; scores and sums in f32."""
    query = zero_padding(query, query_lengths)
    key, value = zero_padding(key, key_lengths), zero_padding(value, key_lengths)
    scores = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=jnp.float32)
    weights = _activate_heads(scores * scale_in[:, None, None], activations)
    out = jnp.einsum(
        "bnts,bsnh->btnh",
        weights.astype(value.dtype),
        value,
        preferred_element_type=jnp.float32,
    )
    return (out * scale_out).astype(query.dtype)
