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
    """Pool a sequence with a few learned queries (Kunlun, HSP; spec section 3.4)."""
    check_shape("value", value, key.shape, "[B, S, N, H] of key")
    check_floating({"seeds": seeds, "key": key, "value": value})
    check_lengths("lengths", lengths, key.shape[0])
    resolve_implementation(implementation)
    return seed_attention_reference(seeds, key, value, lengths)
