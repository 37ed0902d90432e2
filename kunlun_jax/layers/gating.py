"""The gate of InterFormer: sigmoid(x W_g + b) * x."""

import jax
import jax.numpy as jnp
from jax.nn.initializers import constant

from kunlun_jax.layers.linear import dense
from kunlun_jax.shapes import Array, Float

_OPEN_BIAS = 2.0


def gate(
    x: Float[Array, "B tokens D"], *, starts_open: bool, dtype: jnp.dtype, name: str = "gate"
) -> Float[Array, "B tokens D"]:
    """Scale every channel of every token by a sigmoid; a submodule of the calling module.

    Args:
        x: Tokens.
        starts_open: Whether the bias starts at 2, where the gate passes 88 %; else at 0, half.
        dtype: Compute type.
        name: Name of the submodule.
    """
    scores = dense(
        x.shape[-1],
        ("embed", None),
        name=name,
        use_bias=True,
        bias_init=constant(_OPEN_BIAS if starts_open else 0.0),
        dtype=dtype,
    )
    return jax.nn.sigmoid(scores(x)) * x
