"""A probe of the events' representation, from which its effective rank follows.

Off, it costs nothing: unless the collection "probes" is asked for, nothing is traced.
"""

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Float, Int

PROBES = "probes"


def record_second_moment(
    module: nn.Module,
    name: str,
    tokens: Float[Array, "B T D"],
    *,
    lengths: Int[Array, "B"],
    weights: Float[Array, "B"],
) -> None:
    """Put Z^T Z into the collection "probes"; the rows of Z are the tokens of all examples.

    The singular values of Z are the square roots of its eigenvalues; of several batches, the sum
    is that of their union. Accumulated in float32.

    Args:
        module: The module that records.
        name: Name of the record.
        tokens: Any representation of events.
        lengths: Tokens that are real.
        weights: Weight of each example; those of weight 0 are left out.
    """
    if module.is_initializing() or not module.is_mutable_collection(PROBES):
        return
    real = (jnp.arange(tokens.shape[1]) < lengths[:, None]) & (weights > 0)[:, None]
    z = jnp.where(real[..., None], tokens, 0).astype(jnp.float32)
    moment = jnp.einsum("bti,btj->ij", z, z)
    module.put_variable(PROBES, name, moment)
