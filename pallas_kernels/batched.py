"""Masks, heads and batched products of the XLA references.

The references work on [BN, M, H], all heads of all examples (or of their blocks) on one axis,
because XLA's CPU backend runs batched products of that form through its tuned library, fuses the
softmax of `rows_by_rows` into the same call, and takes a slow path for a contraction over the
leading axis of the left operand.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def length_mask(lengths: Int[Array, " B"], size: int) -> Bool[Array, "B {size}"]:
    """Return which of `size` rows are real: row t of example b is when t < lengths[b]."""
    return jnp.arange(size)[None, :] < lengths[:, None]


def zero_padding(
    x: Float[Array, "B T N H"], lengths: Int[Array, " B"] | None
) -> Float[Array, "B T N H"]:
    """Replace the rows beyond each length by zeros; nothing to do when `lengths` is None.

    A select keeps NaN of the padding out of the value and of the gradient; a product with the mask
    would not.
    """
    if lengths is None:
        return x
    return jnp.where(length_mask(lengths, x.shape[1])[:, :, None, None], x, 0)


def merge_heads(x: Float[Array, "B T N H"]) -> Float[Array, "BN T H"]:
    """Bring heads to the batch axis; free of copies for one head."""
    batch, rows, heads, dim = x.shape
    return jnp.swapaxes(x, 1, 2).reshape(batch * heads, rows, dim)


def split_heads(x: Float[Array, "BN T H"], heads: int) -> Float[Array, "B T N H"]:
    """Undo `merge_heads`."""
    groups, rows, dim = x.shape
    return jnp.swapaxes(x.reshape(groups // heads, heads, rows, dim), 1, 2)


def rows_by_rows(a: Float[Array, "BN M H"], b: Float[Array, "BN S H"]) -> Float[Array, "BN M S"]:
    """Return a b^T, accumulated and returned in f32 (f64 for f64 inputs)."""
    return _product(a, b, 2, 2)


def weights_by_rows(
    weights: Float[Array, "BN M S"], rows: Float[Array, "BN S H"]
) -> Float[Array, "BN M H"]:
    """Return weights rows, the weights rounded to the rows' dtype, accumulated in f32."""
    return _product(weights.astype(rows.dtype), rows, 2, 1)


def transposed_weights_by_rows(
    weights: Float[Array, "BN M S"], rows: Float[Array, "BN M H"]
) -> Float[Array, "BN S H"]:
    """Return weights^T rows, the weights rounded to the rows' dtype, accumulated in f32.

    Computed as (rows^T weights)^T: two transpositions of thin operands cost less than the slow path
    of a product that contracts the rows of its left operand (up to 3 times less at H = 8). The
    barriers keep XLA from folding them back into the product.
    """
    thin = jax.lax.optimization_barrier(jnp.swapaxes(rows, 1, 2))
    product = _product(thin, weights.astype(rows.dtype), 2, 1)
    return jnp.swapaxes(jax.lax.optimization_barrier(product), 1, 2)


def _product(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    return jax.lax.dot_general(
        a,
        b,
        (((a_axis,), (b_axis,)), ((0,), (0,))),
        preferred_element_type=jnp.promote_types(a.dtype, jnp.float32),
    )
