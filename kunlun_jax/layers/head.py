"""The multi-task head (spec 3.8)."""

import flax.linen as nn
import jax.numpy as jnp

from kunlun_jax.layers.linear import MLP
from kunlun_jax.shapes import Array, Float


class Head(nn.Module):
    """An MLP over the flattened tokens, with one logit per task.

    Attributes:
        hidden_dims: Widths of the hidden layers.
        num_tasks: Tasks L.
        dtype: Compute type of the hidden layers; the logits are float32.
    """

    hidden_dims: tuple[int, ...]
    num_tasks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B L"]:
        """Return the logits.

        Args:
            tokens: Final context tokens and final pooled tokens.
        """
        flat = tokens.reshape(tokens.shape[0], -1)
        mlp = MLP((*self.hidden_dims, self.num_tasks), out_axis=None, dtype=self.dtype, name="mlp")
        return mlp(flat).astype(jnp.float32)
