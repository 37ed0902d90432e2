"""Dense layers and MLPs whose parameters carry logical axis names."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import lecun_normal, zeros

from kunlun_jax.layers.parameters import Initializer, parameter
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
        dot_general=_product_of_rows,
        name=name,
    )


def times_kernel(
    x: Float[Array, "*batch width"], kernel: Float[Array, "width features"]
) -> Float[Array, "*batch features"]:
    """Return x W, as a product of two matrices whatever the leading axes.

    The gradient of W sums over all rows of x. XLA's CPU backend does that in its tuned library
    where the rows are one axis; over several it takes a loop of its own, at half the speed.

    Args:
        x: Rows.
        kernel: W.
    """
    rows = x.reshape(-1, x.shape[-1])
    return product(rows, kernel).reshape(*x.shape[:-1], kernel.shape[-1])


@jax.custom_vjp
def product(
    rows: Float[Array, "rows width"], kernel: Float[Array, "width features"]
) -> Float[Array, "rows features"]:
    """Return rows W; the gradient of W is made in the layout of W.

    JAX's own rule makes its transpose. Where devices then add it up, XLA cannot fold the turn into
    the product: the optimizer reads the gradient across, does not update in place, and copies
    kernel and moments whole (docs/kernels.md). Reverse-mode differentiation only.

    Args:
        rows: x.
        kernel: W.
    """
    return rows @ kernel


def _product(rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return rows @ kernel, (rows, kernel)


def _product_gradients(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    rows, kernel = saved
    return cotangent @ kernel.T, rows.T @ cotangent


product.defvjp(_product, _product_gradients)


def _product_of_rows(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """Stand for `jax.lax.dot_general` in `nn.Dense`, which contracts the last axis of x."""
    return times_kernel(x, kernel)


class DenseOfParts(nn.Module):
    """A linear map of the last axis of arrays end to end, which are never joined: sum_i x_i W_i.

    It has the parameters of `dense`. Where many candidates of one user are scored, a part that does
    not depend on the candidate is multiplied once for all of them.

    Attributes:
        features: Output width.
        axes: Logical names of the kernel's two axes.
        dtype: Compute type; the parameters are float32.
    """

    features: int
    axes: tuple[str | None, str | None]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, *parts: Float[Array, "... _"]) -> Float[Array, "*batch features"]:
        """Apply the map to one part or more; batch axes of size 1 are broadcast after it.

        Parts may so differ in their batch axes; jaxtyping cannot compare those that are symbols.
        """
        widths = [part.shape[-1] for part in parts]
        shape = (sum(widths), self.features)
        kernel = parameter(self, "kernel", lecun_normal(), self.axes, shape).astype(self.dtype)
        bias = parameter(self, "bias", zeros, self.axes[1:], shape[1:]).astype(self.dtype)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        products = [
            times_kernel(part.astype(self.dtype), kernel[start : start + width])
            for part, start, width in zip(parts, starts, widths, strict=True)
        ]
        return sum(products[1:], start=products[0]) + bias


class DenseToParts(nn.Module):
    """Linear maps of one array, x W_1, ..., x W_n, whose kernels are one parameter, end to end.

    It has the parameter of `dense` with n times the width. The kernel is split, which costs
    nothing, in place of the result: that would be copied, and the gradients of its parts joined,
    once for each of the two products that read them.

    Attributes:
        num_parts: Maps n.
        features: Output width of each.
        axes: Logical names of the kernel's two axes.
        dtype: Compute type; the parameter is float32.
    """

    num_parts: int
    features: int
    axes: tuple[str | None, str | None]
    dtype: jnp.dtype

    def __call__(self, x: Float[Array, "*batch width"]) -> list[Float[Array, "*batch features"]]:
        """Apply the maps to the last axis."""
        x = x.astype(self.dtype)
        return [times_kernel(x, kernel) for kernel in self.kernels(x.shape[-1])]

    @nn.compact
    def kernels(self, width: int) -> list[Float[Array, "width features"]]:
        """Return W_1 to W_n.

        Args:
            width: Of the input.
        """
        shape = (width, self.num_parts * self.features)
        joint = parameter(self, "kernel", lecun_normal(), self.axes, shape).astype(self.dtype)
        return jnp.split(joint, self.num_parts, axis=-1)


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
    def __call__(self, *parts: Float[Array, "... _"]) -> Float[Array, "*batch out_dim"]:
        """Apply the layers to the last axis.

        Args:
            parts: The input, or several arrays that are it end to end (`DenseOfParts`).
        """
        *hidden, out = self.dims
        for i, width in enumerate(hidden):
            linear = DenseOfParts(width, (None, "mlp"), self.dtype, name=f"hidden_{i}")
            parts = (nn.gelu(linear(*parts), approximate=True),)
        (x,) = parts
        scaled = nn.initializers.variance_scaling(self.out_scale**2, "fan_in", "truncated_normal")
        return dense(
            out,
            ("mlp", self.out_axis),
            name="out",
            use_bias=True,
            kernel_init=scaled,
            dtype=self.dtype,
        )(x)
