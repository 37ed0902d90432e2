"""The public function of seed attention."""

from jaxtyping import Array

from pallas_kernels.seed_attention.reference import seed_attention_reference
from pallas_kernels.validation import (
    check_floating,
    check_lengths,
    check_shape,
    resolve_implementation,
)


def seed_attention(
    seeds: Array,
    key: Array,
    value: Array,
    *,
    lengths: Array | None = None,
    implementation: str | None = None,
) -> Array:
    """Pool a sequence with a few learned queries (Kunlun, HSP; spec section 3.4).

        out[b,p,n] = sum_s softmax_s(seeds[b,p,n] . k[b,s,n] / sqrt(H)) v[b,s,n],   s < lengths[b]

    Scores, softmax and sums are f32 whatever the dtype of the inputs; the weights are rounded to
    the inputs' dtype before the product with `value`. Reverse-mode differentiation only.

    Args:
        seeds: [P, N, H], shared by the batch, or [B, P, N, H].
        key: [B, S, N, H], the events of a stream.
        value: [B, S, N, H].
        lengths: [B] integers in 0..S, None for full. Rows beyond are padding: never read; their
            gradients are exactly 0.
        implementation: None picks the best that applies; "xla" the XLA reference. One asked for
            by name never falls back.

    Returns:
        [B, P, N, H] in the dtype of `seeds`. An empty sequence gives 0.

    Raises:
        ValueError: a shape, dtype or implementation other than the above.
    """
    check_shape("key", key, (None,) * 4, "[B, S, N, H]")
    batch, _, heads, dim = key.shape
    check_shape("value", value, key.shape, "[B, S, N, H] of key")
    if len(seeds.shape) == 3:
        check_shape("seeds", seeds, (None, heads, dim), "[P, N, H]")
    else:
        check_shape("seeds", seeds, (batch, None, heads, dim), "[P, N, H] or [B, P, N, H]")
    check_floating({"seeds": seeds, "key": key, "value": value})
    check_lengths("lengths", lengths, batch)
    resolve_implementation(implementation)
    return seed_attention_reference(seeds, key, value, lengths)
