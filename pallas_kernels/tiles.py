"""Maths of one tile, inside a kernel: rows, products, fast functions, online softmax.

A tile is a two-dimensional array of f32 (scores, sums) or of the inputs' dtype (rows, weights). Its
sizes are powers of two from 16 on. A kernel sees whole sequences and cuts tiles out of them itself;
what lies beyond the end of a sequence is never read: those rows are 0.

The primitives of the Triton backend stand at the end of this file and nowhere else.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, DTypeLike, Float, Int

from pallas_kernels.activations import Transcendentals
from pallas_kernels.tile_choices import capability

LOG2_E = 1.4426950408889634
# The score of a masked pair, and the peak of a row that has seen no other: finite, so that their
# difference is not NaN, and far enough apart that 2^(MASKED - _NO_PEAK) is 0.
MASKED = -1e30
_NO_PEAK = 0.5 * MASKED
# erfc(z) = t (a1 + t (a2 + ...)) exp(-z^2), t = 1 / (1 + p z); error below 1.5e-7 (Abramowitz and
# Stegun, Handbook of Mathematical Functions, 7.1.26).
_ERFC_P = 0.3275911
_ERFC = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def padded_size(size: int) -> int:
    """Return the smallest size of a tile's side that holds `size`."""
    return max(16, pl.next_power_of_2(size))


def full_or(lengths: Int[Array, " B"] | None, rows: Float[Array, "B T N H"]) -> Int[Array, " B"]:
    """Return the lengths, full ones for None."""
    return jnp.full(rows.shape[:1], rows.shape[1], jnp.int32) if lengths is None else lengths


def pad_last(x: Float[Array, "*rows H"], size: int) -> Float[Array, "*rows {size}"]:
    """Append zeros to the last axis."""
    if x.shape[-1] == size:
        return x
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def pad_head_dim(x: Float[Array, "*rows H"], halves: bool = False) -> Float[Array, "*rows padded"]:
    """Pad H to the size of a tile with zeros, which change no product; each half of H if asked."""
    if not halves:
        return pad_last(x, padded_size(x.shape[-1]))
    half = x.shape[-1] // 2
    split = x.reshape(*x.shape[:-1], 2, half)
    return pad_last(split, padded_size(half)).reshape(*x.shape[:-1], -1)


def unpad_head_dim(
    x: Float[Array, "*rows padded"], head_dim: int, halves: bool = False
) -> Float[Array, "*rows {head_dim}"]:
    """Undo `pad_head_dim`."""
    if not halves:
        return x[..., :head_dim]
    split = x.reshape(*x.shape[:-1], 2, -1)[..., : head_dim // 2]
    return split.reshape(*x.shape[:-1], head_dim)


def num_tiles(size, block: int):
    """Return how many tiles of `block` rows hold `size` rows; also of a traced size."""
    return (size + block - 1) // block


def row_indices(start, block: int) -> Array:
    """Return the indices of the rows of a tile, [block] int32."""
    return start + jax.lax.iota(jnp.int32, block)


def zeros(*shape: int) -> Array:
    """Return an accumulator."""
    return jnp.zeros(shape, jnp.float32)


def product(a: Array, b: Array) -> Array:
    """Return a b, accumulated in f32."""
    return _dot(a, b, 1, 0)


def product_nt(a: Array, b: Array) -> Array:
    """Return a b^T, accumulated in f32."""
    return _dot(a, b, 1, 1)


def product_tn(a: Array, b: Array) -> Array:
    """Return a^T b, accumulated in f32."""
    return _dot(a, b, 0, 0)


def masked_product(scale: float) -> float:
    """Return the product of a pair that is out of reach: scaled, it is `MASKED`."""
    return MASKED / scale


class OnlineSoftmax(NamedTuple):
    """A softmax-weighted sum of rows that sees its scores block by block.

    Attributes:
        total: [M, H] f32, sum of 2^(score - peak) * row.
        peak: [M] f32, the largest score so far.
        mass: [M] f32, sum of 2^(score - peak).
    """

    total: Array
    peak: Array
    mass: Array

    @classmethod
    def empty(cls, rows: int, head_dim: int) -> "OnlineSoftmax":
        """Return the sum over no block."""
        return cls(zeros(rows, head_dim), jnp.full((rows,), _NO_PEAK, jnp.float32), zeros(rows))

    def add(self, products: Array, scale: float, values: Array, maths: "Maths") -> "OnlineSoftmax":
        """Add a block.

        Args:
            products: [M, S] f32, the scores before they are scaled; `masked_product(scale)` where
                a pair is out of reach.
            scale: positive; turns products into scores in units of log 2.
            values: [S, H].
            maths: the functions of the backend that runs.
        """
        peak = jnp.maximum(self.peak, scale * jnp.max(products, axis=1))
        shrink = maths.exp2(self.peak - peak)
        weights = maths.exp2(maths.fma(products, scale, -peak[:, None]))
        mass = maths.fma(self.mass, shrink, jnp.sum(weights, axis=1))
        total = maths.mul(self.total, shrink[:, None])
        total += product(weights.astype(values.dtype), values)
        return OnlineSoftmax(total, peak, mass)

    def result(self) -> tuple[Array, Array]:
        """Return the weighted mean, [M, H], and log2 of every row's mass, [M].

        A row without a key has the mean 0; its logarithm is hugely negative, yet far above MASKED.
        """
        mass = jnp.where(self.mass > 0, self.mass, 1.0)
        return self.total / mass[:, None], self.peak + LOG2_E * jnp.log(mass)


class Maths(NamedTuple):
    """The functions of a kernel.

    Attributes:
        exp2: 2^x of an f32 tile; error below 2 units in the last place.
        fma: x * y + z of f32, rounded once on a GPU; y and z may be smaller, and are broadcast.
        mul: x * y of f32, likewise.
        sub: x - y of f32, likewise.
        activations: what the activations are made of.
    """

    exp2: Callable[[Array], Array]
    fma: Callable[[Array, Array | float, Array | float], Array]
    mul: Callable[[Array, Array | float], Array]
    sub: Callable[[Array, Array | float], Array]
    activations: Transcendentals


def multiplies_pairs() -> bool:
    """Return whether the GPU that is compiled for has instructions for pairs of f32 numbers."""
    major, _, _ = capability().partition(".")
    return major.isdigit() and int(major) >= 10


def maths_for(dtype: DTypeLike, interpret: bool) -> Maths:
    """Return the functions for inputs of `dtype`.

    The instruction for tanh has an error of 2^-11, small beside the rounding of a 16-bit result
    (2^-9 for bf16) but not beside that of an f32 one, which is built on 2^x instead.
    """
    exp2, fma, mul, sub = jnp.exp2, _multiply_add, operator.mul, operator.sub
    if not interpret:
        exp2, fma = _exp2, _fma
        if multiplies_pairs():
            fma, mul, sub = (partial(_pairs, name) for name in ("fma", "mul", "sub"))
    rounded = jnp.dtype(dtype).itemsize == 2

    def tanh(x: Array) -> Array:
        if rounded:
            return jnp.tanh(x) if interpret else plgpu.approx_tanh(x)
        return 1.0 - 2.0 / (1.0 + exp2((2.0 * LOG2_E) * x))

    def sigmoid(x: Array) -> Array:
        if rounded:
            return fma(tanh(0.5 * x), 0.5, 0.5)
        return 1.0 / (1.0 + exp2(-LOG2_E * x))

    def normal(x: Array) -> tuple[Array, Array]:
        density = exp2((-0.5 * LOG2_E) * x * x)
        t = 1.0 / fma(jnp.abs(x), _ERFC_P * 0.5**0.5, 1.0)
        series = jnp.full_like(t, _ERFC[-1])
        for coefficient in reversed(_ERFC[:-1]):
            series = fma(series, t, coefficient)
        tail = 0.5 * series * t * density
        return jnp.where(x < 0, tail, 1.0 - tail), 0.3989422804014327 * density

    return Maths(exp2, fma, mul, sub, Transcendentals(tanh, sigmoid, normal, fma, mul))


def load_rows(ref, start, block: int, end, columns: slice | None = None) -> Array:
    """Return rows start .. start + block of [rows, H]; those from `end` on are 0, and not read."""
    columns = columns or slice(0, ref.shape[1])
    width = columns.stop - columns.start
    mask = jnp.broadcast_to((row_indices(start, block) < end)[:, None], (block, width))
    part = ref.at[pl.ds(start, block), pl.ds(columns.start, width)]
    return plgpu.load(part, mask=mask, other=0.0)


def load_numbers(ref, start, block: int, end, other: float = 0.0) -> Array:
    """Return numbers start .. start + block of [rows]; those from `end` on are `other`."""
    mask = row_indices(start, block) < end
    return plgpu.load(ref.at[pl.ds(start, block)], mask=mask, other=other)


def store_rows(ref, start, values: Array, end, columns: slice | None = None) -> None:
    """Write a tile to rows start, start + 1, ... of [rows, H]; those from `end` on are dropped."""
    columns = columns or slice(0, ref.shape[1])
    block, width = values.shape
    mask = jnp.broadcast_to((row_indices(start, block) < end)[:, None], values.shape)
    part = ref.at[pl.ds(start, block), pl.ds(columns.start, width)]
    plgpu.store(part, values.astype(ref.dtype), mask=mask)


def store_zeros(ref, first, last, block: int, rows: int) -> None:
    """Store zeros to the tiles first .. last of `ref`, which has `rows` rows."""

    def one_tile(i, _):
        store_rows(ref, i * block, zeros(block, ref.shape[1]), rows)
        return _

    jax.lax.fori_loop(first, last, one_tile, 0)


def store_numbers(ref, start, values: Array, end) -> None:
    """Write numbers start, start + 1, ... of [rows]; those from `end` on are dropped."""
    mask = row_indices(start, values.shape[0]) < end
    plgpu.store(ref.at[pl.ds(start, values.shape[0])], values.astype(ref.dtype), mask=mask)


def _dot(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    dimensions = (((a_axis,), (b_axis,)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _multiply_add(x: Array, y: Array | float, z: Array | float) -> Array:
    return x * y + z


def _fma(x: Array, y: Array | float, z: Array | float) -> Array:
    # XLA keeps the compiler from joining a product and a sum, which are then two instructions.
    y, z = (jnp.broadcast_to(jnp.asarray(part, jnp.float32), x.shape) for part in (y, z))
    return plgpu.elementwise_inline_asm(
        "fma.rn.f32 $0, $1, $2, $3;",
        args=[x, y, z],
        constraints="=f,f,f,f",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)],
    )[0]


def _pairs(operation: str, *parts: Array | float) -> Array:
    """Return the fused product, product or difference of f32 parts, two numbers at once."""
    first = parts[0]
    assert isinstance(first, jax.Array)
    if first.ndim < 2:  # a thread may hold a single number of it
        plain = {"fma": _fma, "mul": operator.mul, "sub": operator.sub}
        return plain[operation](*parts)
    arrays = [jnp.broadcast_to(jnp.asarray(part, jnp.float32), first.shape) for part in parts]
    names = [f"%p{number}" for number in range(len(arrays))]
    loads = [
        f"mov.b64 {name}, {{${2 + 2 * number}, ${3 + 2 * number}}};"
        for number, name in enumerate(names)
    ]
    text = (
        f"{{ .reg .b64 {', '.join(names)}; {' '.join(loads)} "
        f"{operation}.rn.f32x2 {names[0]}, {', '.join(names)}; mov.b64 {{$0, $1}}, {names[0]}; }}"
    )
    return plgpu.elementwise_inline_asm(
        text,
        args=arrays,
        constraints="=r,=r" + ",r" * (2 * len(arrays)),
        pack=2,
        result_shape_dtypes=[jax.ShapeDtypeStruct(first.shape, first.dtype)],
    )[0]


def _exp2(x: Array) -> Array:
    # jnp.exp2 would become a call of the device library, with handling of numbers so small that
    # they are 0 here.
    return plgpu.elementwise_inline_asm(
        "ex2.approx.ftz.f32 $0, $1;",
        args=[x],
        constraints="=f,f",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, x.dtype)],
    )[0]
