"""Dense layers and MLPs whose parameters carry logical axis names."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import lecun_normal, zeros

from kunlun_jax.layers.parameters import Initializer
from kunlun_jax.shapes import Array, Float


def dense(
    features: int,
    axes: tuple[str | None, str | None],
    *,
    name: str,
    use_bias: bool = False,
    kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: jnp.dtype | None = None,
) -> nn.Dense:
    """Return a linear map of the last axis.

    Args:
        features: Output width.
        axes: Logical names of the kernel's two axes.
        name: Name of the submodule.
        use_bias: Whether there is a bias.
        kernel_init: Initialiser of the kernel; LeCun normal by default.
        bias_init: Initialiser of the bias; zeros by default.
        dtype: Compute type; the parameters are float32.
    """
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=nn.with_logical_partitioning(kernel_init or lecun_normal(), axes),
        bias_init=nn.with_logical_partitioning(bias_init or zeros, axes[1:]),
        name=name,
    )


class MLP(nn.Module):
    """Linear maps with GELU (tanh form) between them and none after the last.

    Attributes:
        dims: Widths of the hidden layers and of the output.
        dtype: Compute type.
        out_axis: Logical name of the output axis.
        out_scale: Factor on the initial kernel of the output.
    """

    dims: Sequence[int]
    dtype: jnp.dtype
    out_axis: str | None = "embed"
    out_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "*batch in_dim"]) -> Float[Array, "*batch out_dim"]:
        """Apply the layers to the last axis."""
        *hidden, out = self.dims
        for i, width in enumerate(hidden):
            x = dense(width, (None, "mlp"), name=f"hidden_{i}", use_bias=True, dtype=self.dtype)(x)
            x = nn.gelu(x, approximate=True)
        scaled = nn.initializers.variance_scaling(self.out_scale**2, "fan_in", "truncated_normal")
        return dense(
            out,
            ("mlp", self.out_axis),
            name="out",
            use_bias=True,
            kernel_init=scaled,
            dtype=self.dtype,
        )(x)
