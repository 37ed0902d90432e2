"""The public function of seed attention."""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array

from pallas_kernels import tiles
from pallas_kernels.implementation import resolve_implementation
from pallas_kernels.seed_attention.backward import backward
from pallas_kernels.seed_attention.forward import Inputs, forward
from pallas_kernels.seed_attention.reference import seed_attention_reference
from pallas_kernels.tile_choices import choose
from pallas_kernels.validation import (
    check_floating,
    check_shape,
    checked_lengths,
)


def seed_attention(
    seeds: Array,
    key: Array,
    value: Array,
    *,
    lengths: Array | None = None,
    implementation: str | None = None,
) -> Array:
    """Pool a sequence with a few learned queries (Kunlun, HSP; docs/model.md#seed-pooling).

        out[b,p,n] = sum_s softmax_s(seeds[b,p,n] . k[b,s,n] / sqrt(H)) v[b,s,n],   s < lengths[b]

    Scores, softmax and sums are f32 whatever the dtype of the inputs; the weights are rounded to
    the inputs' dtype before the product with `value`. Reverse-mode differentiation only.

    Args:
        seeds: [P, N, H], shared by the batch, or [B, P, N, H].
        key: [B, S, N, H], the events of a stream.
        value: [B, S, N, H].
        lengths: [B] integers, cut to 0..S; None for full. Rows beyond are padding: never read;
            their gradients are exactly 0.
        implementation: one of `pallas_kernels.IMPLEMENTATIONS`; None picks the best that applies.

    Returns:
        [B, P, N, H] in the dtype of `seeds`. An empty sequence gives 0.

    Raises:
        ValueError: a shape, dtype or implementation other than the above.

    Examples:
        Equal scores average the values; the last event is padding.

        >>> import jax.numpy as jnp
        >>> zeros = jnp.zeros((1, 3, 1, 2))
        >>> value = jnp.broadcast_to(jnp.arange(3.0)[None, :, None, None], zeros.shape)
        >>> out = seed_attention(jnp.zeros((4, 1, 2)), zeros, value, lengths=jnp.asarray([2]))
        >>> out.shape, out[0, 0, 0].tolist()
        ((1, 4, 1, 2), [0.5, 0.5])
    """
    check_shape("key", key, (None,) * 4, "[B, S, N, H]")
    batch, _, heads, dim = key.shape
    check_shape("value", value, key.shape, "[B, S, N, H] of key")
    if len(seeds.shape) == 3:
        check_shape("seeds", seeds, (None, heads, dim), "[P, N, H]")
    else:
        check_shape("seeds", seeds, (batch, None, heads, dim), "[P, N, H] or [B, P, N, H]")
    check_floating({"seeds": seeds, "key": key, "value": value})
    lengths = checked_lengths("lengths", lengths, batch, key.shape[1])
    runs = resolve_implementation(implementation, dtype=key.dtype, head_dim=dim)
    if runs == "xla":
        return seed_attention_reference(seeds, key, value, lengths)
    inputs = Inputs(
        tiles.pad_head_dim(seeds if seeds.ndim == 4 else seeds[None]),
        tiles.pad_head_dim(key),
        tiles.pad_head_dim(value),
        tiles.full_or(lengths, key),
    )
    out: Any = _kernels(inputs, tiles.LOG2_E * dim**-0.5, runs == "triton_interpret")
    return out[..., :dim]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _kernels(inputs: Inputs, scale: float, interpret: bool) -> Array:
    return _forward(inputs, scale, interpret)[0]


def _forward(inputs: Inputs, scale: float, interpret: bool) -> tuple[Array, tuple[Any, ...]]:
    tile = choose("seed_attention_forward", inputs.key, **_sizes(inputs))
    out, lse = forward(inputs, scale=scale, tile=tile, interpret=interpret)
    return out, (inputs, out, lse)


def _gradients(scale: float, interpret: bool, saved: Any, cotangent: Array) -> tuple[Inputs]:
    inputs, out, lse = saved
    gradients = backward(
        inputs,
        out,
        lse,
        cotangent.astype(inputs.key.dtype),
        scale=scale,
        seed_tile=choose("seed_attention_backward", inputs.key, **_sizes(inputs)),
        key_tile=choose("seed_attention_backward_keys", inputs.key, **_sizes(inputs)),
        interpret=interpret,
    )
    return (gradients,)


def _sizes(inputs: Inputs) -> dict[str, Any]:
    return {"rows": inputs.seeds.shape[1], "keys": inputs.key.shape[1]}


_kernels.defvjp(_forward, _gradients)
