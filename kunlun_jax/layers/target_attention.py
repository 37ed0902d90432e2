"""Target attention of DIN (arXiv:1706.06978, section 4.3)."""

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.layers.linear import MLP
from kunlun_jax.shapes import Array, Float, Int


class TargetAttention(nn.Module):
    """Sum up the events of a stream, weighted by how they relate to the candidate.

        out = sum_t MLP([c, s_t, c - s_t, c * s_t]) s_t

    The weights are not normalised: their sum says how much of the history concerns the candidate.
    The sum is accumulated in float32.

    Attributes:
        hidden_dims: Hidden widths of the MLP.
        dtype: Compute type.
    """

    hidden_dims: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        candidate: Float[Array, "B D"],
        events: Float[Array, "B T D"],
        lengths: Int[Array, "B"],
    ) -> Float[Array, "B D"]:
        """Return the user's interest in the candidate; 0 for a stream without events.

        Args:
            candidate: c, the candidate's token.
            events: S, the event tokens.
            lengths: Events that are real.
        """
        c = jnp.broadcast_to(candidate[:, None], events.shape)
        weigh = MLP((*self.hidden_dims, 1), out_axis=None, dtype=self.dtype, name="mlp")
        weights = weigh(jnp.concatenate([c, events, c - events, c * events], axis=-1))
        real = jnp.arange(events.shape[1]) < lengths[:, None]
        weighted = jnp.where(real[..., None], weights * events, 0)
        return jnp.sum(weighted, axis=1, dtype=jnp.float32).astype(events.dtype)
