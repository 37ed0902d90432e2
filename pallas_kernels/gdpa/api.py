"""The public function of GDPA."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pallas_kernels import tiles
from pallas_kernels.activations import ACTIVATIONS
from pallas_kernels.gdpa.backward import backward
from pallas_kernels.gdpa.forward import Inputs, forward
from pallas_kernels.gdpa.reference import gdpa_reference
from pallas_kernels.implementation import resolve_implementation
from pallas_kernels.tile_choices import choose
from pallas_kernels.validation import (
    check_floating,
    check_shape,
    checked_lengths,
)


def _activation_of_heads(activation: str | tuple[str, ...], num_heads: int) -> tuple[str, ...]:
    names = (activation,) * num_heads if isinstance(activation, str) else tuple(activation)
    if len(names) != num_heads:
        raise ValueError(
            f"activation: expected one name or one per head ({num_heads}), got {len(names)} names"
        )
    for name in names:
        if name not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return names


def gdpa(
    query: Array,
    key: Array,
    value: Array,
    *,
    query_lengths: Array | None = None,
    key_lengths: Array | None = None,
    activation: str | tuple[str, ...] = "gelu_tanh",
    scale_in: float | Array = 1.0,
    scale_out: float = 1.0,
    implementation: str | None = None,
) -> Array:
    """Compute generalised dot-product attention (Kunlun, GDPA; docs/model.md#gdpa).

        out[b,t,n] = scale_out * sum_s act_n(scale_in[n] * q[b,t,n] . k[b,s,n]) * v[b,s,n]

    There is no softmax and no normalisation over s. Scores, the activation and the sums are f32
    whatever the dtype of the inputs; the activated scores are rounded to the inputs' dtype before
    the product with `value`. Nothing bounds them, so that float16 can overflow: a weight or a sum
    above 65,504 is infinite. bfloat16 reaches as far as float32.

    Args:
        query: [B, T, N, H], the events of a stream.
        key: [B, S, N, H], the personalised weights; S is the hidden width of the PFFN.
        value: [B, S, N, H].
        query_lengths: [B] integers, cut to 0..T; None for full. Rows beyond are padding: never
            read; their outputs and gradients are exactly 0.
        key_lengths: [B] integers, cut to 0..S, likewise for `key` and `value`.
        activation: one of `pallas_kernels.ACTIVATIONS`, or a tuple of them, one per head.
        scale_in: factor of the scores, a number or an [N] array; differentiable.
        scale_out: factor of the output, a number.
        implementation: one of `pallas_kernels.IMPLEMENTATIONS`; None picks the best that applies.

    Returns:
        [B, T, N, H] in the dtype of `query`. A row without a valid key is 0.

    Raises:
        ValueError: a shape, dtype, activation or implementation other than the above.

    Examples:
        Of the two keys the second is padding; the query meets the first alone, act(2) * value.

        >>> query, key = jnp.full((1, 1, 1, 2), 1.0), jnp.full((1, 2, 1, 2), 1.0)
        >>> value = jnp.asarray([[[[1.0, 2.0]], [[5.0, 5.0]]]])
        >>> out = gdpa(query, key, value, key_lengths=jnp.asarray([1]), activation="relu")
        >>> out.shape, out[0, 0, 0].tolist()
        ((1, 1, 1, 2), [2.0, 4.0])
    """
    check_shape("query", query, (None,) * 4, "[B, T, N, H]")
    batch, _, num_heads, head_dim = query.shape
    check_shape("key", key, (batch, None, num_heads, head_dim), "[B, S, N, H]")
    check_shape("value", value, key.shape, "[B, S, N, H] of key")
    check_floating({"query": query, "key": key, "value": value})
    query_lengths = checked_lengths("query_lengths", query_lengths, batch, query.shape[1])
    key_lengths = checked_lengths("key_lengths", key_lengths, batch, key.shape[1])
    activations = _activation_of_heads(activation, num_heads)
    scales = jnp.asarray(scale_in, jnp.float32)
    if scales.ndim:
        check_shape("scale_in", scales, (num_heads,), "[N]")
    scales = jnp.broadcast_to(scales, (num_heads,))
    runs = resolve_implementation(implementation, dtype=query.dtype, head_dim=head_dim)
    if runs == "xla":
        return gdpa_reference(
            query, key, value, query_lengths, key_lengths, activations, scales, scale_out
        )
    inputs = Inputs(
        tiles.pad_head_dim(query),
        tiles.pad_head_dim(key),
        tiles.pad_head_dim(value),
        tiles.full_or(query_lengths, query),
        tiles.full_or(key_lengths, key),
        jnp.broadcast_to(scales, (batch, num_heads)),
    )
    out: Any = _kernels(inputs, _Options(activations, float(scale_out), runs == "triton_interpret"))
    return out[..., :head_dim]


class _Options(NamedTuple):
    activations: tuple[str, ...]
    scale_out: float
    interpret: bool


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _kernels(inputs: Inputs, options: _Options) -> Array:
    tile = choose("gdpa_forward", inputs.query, **_sizes(inputs))
    return forward(inputs, tile=tile, **options._asdict())


def _save_inputs(inputs: Inputs, options: _Options) -> tuple[Array, Inputs]:
    return _kernels(inputs, options), inputs


def _gradients(options: _Options, inputs: Inputs, cotangent: Array) -> tuple[Inputs]:
    gradients = backward(
        inputs,
        cotangent.astype(inputs.query.dtype),
        key_tile=choose("gdpa_backward", inputs.query, **_sizes(inputs)),
        query_tile=choose("gdpa_backward_queries", inputs.query, **_sizes(inputs)),
        **options._asdict(),
    )
    return (gradients,)


def _sizes(inputs: Inputs) -> dict[str, Any]:
    return {"rows": inputs.query.shape[1], "keys": inputs.key.shape[1]}


_kernels.defvjp(_save_inputs, _gradients)
