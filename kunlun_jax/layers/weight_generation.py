"""Weight generation (docs/model.md#weight-generation): the context becomes a summary.

    Z = A X,   X_sum = Gate(Z + MLP(Z)),   Gate(x) = sigmoid(x W_g) * x

The summary stands for all context tokens where histories are concerned: it makes the weights of
GDPA. With `interaction_input = "summary"` it also enters the interaction.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import lecun_normal

from kunlun_jax.config import ModelConfig
from kunlun_jax.layers.gating import gate
from kunlun_jax.layers.initializers import copy_slots
from kunlun_jax.layers.linear import MLP
from kunlun_jax.layers.parameters import parameter
from kunlun_jax.shapes import Array, Float

_SLOT_NOISE = 0.1
_ALIGNED_MLP_SCALE = 0.3


class WeightGeneration(nn.Module):
    """Compress the context tokens X into G summary tokens X_sum.

    With `init = "aligned"`, A starts as "copy the first G tokens" plus noise, the MLP branch small
    and the gate open, so that the candidate, token 0, arrives in summary token 0 as it is. Every
    layer starts so, not only the first: the interaction keeps the order of tokens.

    Attributes:
        model: The model.
        use_mlp: Whether Z passes the MLP; without it this is InterFormer's Gate(LCE(X)).
    """

    model: ModelConfig
    use_mlp: bool = True

    @nn.compact
    def __call__(self, tokens: Float[Array, "B F D"]) -> Float[Array, "B G D"]:
        """Return X_sum.

        Args:
            tokens: X^(l).
        """
        model, dtype = self.model, jnp.dtype(self.model.dtype)
        aligned = model.init == "aligned"
        compress = parameter(
            self,
            "compress",
            copy_slots(_SLOT_NOISE) if aligned else lecun_normal(in_axis=-1, out_axis=-2),
            (None, None),
            (model.n_sum, tokens.shape[1]),
        )
        z = jnp.einsum("gf,bfd->bgd", compress.astype(dtype), tokens)
        if not self.use_mlp:
            return gate(z, starts_open=aligned, dtype=dtype)
        branch = MLP(
            (model.dim, model.dim),
            out_scale=_ALIGNED_MLP_SCALE if aligned else 1.0,
            dtype=dtype,
            name="mlp",
        )
        return gate(z + branch(z), starts_open=aligned, dtype=dtype)
