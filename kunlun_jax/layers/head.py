"""The multi-task head (docs/model.md#head).

    logits = MLP(flatten([X^(0) || g * Y]))     X^(0): context tokens; Y: what the trunk returns
    logits = MLP(flatten(Y))                    with `model.head_context` false, as in the paper

The first form is ours. A trunk that ends in a norm returns dozens of tokens of unit variance, most
of which say nothing yet. Adam moves every weight by the same amount, so the logit moves with their
number, and the few numbers that say much from the start, the dense features, are lost among them.
So the context reaches the head as it is, and the trunk through a learned gain per channel, g, that
starts at 0.1 (as LayerScale's does, arXiv:2103.17239). It helps where the context says much: on
MovieLens-1M, and wherever counts are given. It delays what only the trunk can find, as on Complete
Journey with events alone: docs/design.md.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import constant

from kunlun_jax.layers.linear import MLP
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float

_INITIAL_GAIN = 0.1


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
    def __call__(
        self, tokens: Float[Array, "B tokens D"], context: Float[Array, "B F D"] | None = None
    ) -> Float[Array, "B L"]:
        """Return the logits.

        Args:
            tokens: Y, what the trunk returns.
            context: X^(0); None: the first form.
        """
        if context is not None:
            gain = parameter(self, "gain", constant(_INITIAL_GAIN), ("embed",), tokens.shape[-1:])
            tokens = jnp.concatenate([context, tokens * gain.astype(tokens.dtype)], axis=1)
        flat = tokens.reshape(tokens.shape[0], -1)
        mlp = MLP((*self.hidden_dims, self.num_tasks), out_axis=None, dtype=self.dtype, name="mlp")
        return mlp(flat).astype(jnp.float32)
