"""The two kernels of window attention's backward pass, tile by tile; `backward.py` says what of.

Queries and keys come rotated, R Q and R K; their gradients are turned back at the end. ROTE turns
the pair (x[i], x[i + H/2]), so that with a rotation the two halves of a row are loaded apart and
never put together: a score is the sum of the products of the halves.

The angle of pair i at row t is position_t * theta_i + time_t * phi_i. Turning a pair (a, b) further
changes it by (-b, a), so a row's share in the gradient of its angle is a dB - b dA, with the
gradients dA, dB of the turned pair; theta and phi collect it times the row's position and time.
Every program leaves one partial sum, which XLA adds up.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array

from pallas_kernels import tiles
from pallas_kernels.tile_choices import Tile
from pallas_kernels.window_attention.forward import in_window, tiles_in_reach


def _halves(width: int) -> tuple[slice, slice]:
    """Return the columns of the two halves of a row."""
    return slice(0, width // 2), slice(width // 2, width)


def _load_parts(ref, rotated: bool, start, block: int, end) -> list[Array]:
    """Load rows of query or key: one part, or the two halves that a rotation pairs."""
    parts = _halves(ref.shape[1]) if rotated else [None]
    return [tiles.load_rows(ref, start, block, end, part) for part in parts]


def _products_of_parts(left: list[Array], right: list[Array]) -> Array:
    """Return the sum over the parts of left right^T."""
    total = tiles.product_nt(left[0], right[0])
    for a, b in zip(left[1:], right[1:], strict=True):
        total += tiles.product_nt(a, b)
    return total


def _store_turned_back(gradients, rows_ref, refs, rotation, start, rows: int, end) -> None:
    """Store the gradient of unturned rows, and this program's share in those of theta and phi.

    Args:
        gradients: of the parts that entered the scores, f32.
        rows_ref: the rows of query or key, turned.
        refs: where the rows' gradients go and, with a rotation, those of theta and phi.
        rotation: references to the fields of `Rotation`, or nothing.
        start: first row of the tile.
        rows: rows of the array.
        end: valid rows.
    """
    if not rotation:
        [ref] = refs
        tiles.store_rows(ref, start, gradients[0], rows)
        return
    ref, dtheta_ref, dphi_ref = refs
    sin_ref, cos_ref, positions_ref, times_ref = rotation
    block = gradients[0].shape[0]
    left, right = _halves(ref.shape[1])
    # Adds zero in a way that the compiler cannot fold. It would merge these loads with those from
    # before the loop otherwise, and hold what they gave in registers all through it.
    start += jnp.minimum(end, 0)
    first, second = gradients
    sin, cos = (tiles.load_rows(table, start, block, end) for table in (sin_ref, cos_ref))
    tiles.store_rows(ref, start, first * cos + second * sin, rows, left)
    tiles.store_rows(ref, start, second * cos - first * sin, rows, right)
    # Rounded as they entered the scores: only then do both kernels credit a pair of rows with the
    # same change of their angle, so that positions far from 0 cancel.
    a, b = _load_parts(rows_ref, True, start, block, end)
    turn = a.astype(jnp.float32) * second - b.astype(jnp.float32) * first
    for values_ref, out_ref in ((positions_ref, dtheta_ref), (times_ref, dphi_ref)):
        values = tiles.load_numbers(values_ref, start, block, end)
        out_ref[...] = jnp.sum(values[:, None] * turn, axis=0)


class _Refs(NamedTuple):
    """What a program sees of the inputs, in the order in which they are launched.

    Attributes:
        length: of its example.
        q: rows of its example and head, turned.
        k: likewise.
        v: rows of its example and head.
        do: likewise, of the cotangent.
        lse: numbers of its example and head.
        last: rows of the output, or delta, numbers.
        rotation: the fields of `Rotation`, or nothing.
    """

    length: Any
    q: Any
    k: Any
    v: Any
    do: Any
    lse: Any
    last: Any
    rotation: Sequence[Any]

    @classmethod
    def split(cls, refs: Sequence[Any], rotated: bool) -> tuple["_Refs", Sequence[Any]]:
        """Return the inputs and the outputs."""
        length, q, k, v, do, lse, last, *rest = refs
        count = 4 * rotated
        return cls(length, q, k, v, do, lse, last, rest[:count]), rest[count:]


def query_tile_kernel(
    *refs,
    rotated: bool,
    rows: int,
    tile: Tile,
    window: int,
    scale: float,
    maths: tiles.Maths,
):
    """Own a tile of queries: dQ, delta, and this tile's share in the frequencies' gradients."""
    inputs, (dq_ref, delta_ref, *frequency_refs) = _Refs.split(refs, rotated)
    num_rows = inputs.length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_q
    row_indices = tiles.row_indices(start, block_q)
    q = _load_parts(inputs.q, rotated, start, block_q, num_rows)
    do = tiles.load_rows(inputs.do, start, block_q, num_rows)
    lse = tiles.load_numbers(inputs.lse, start, block_q, num_rows)
    out = tiles.load_rows(inputs.last, start, block_q, num_rows)
    delta = jnp.sum(do.astype(jnp.float32) * out.astype(jnp.float32), axis=1)
    tiles.store_numbers(delta_ref, start, delta, rows)

    def add_block(j, dq):
        k = _load_parts(inputs.k, rotated, j * block_kv, block_kv, num_rows)
        v = tiles.load_rows(inputs.v, j * block_kv, block_kv, num_rows)
        columns = tiles.row_indices(j * block_kv, block_kv)
        valid = in_window(row_indices, columns, window, num_rows)
        products = jnp.where(valid, _products_of_parts(q, k), tiles.masked_product(scale))
        weights = maths.exp2(maths.fma(products, scale, -lse[:, None]))
        change = maths.sub(tiles.product_nt(do, v), delta[:, None])
        dscores = maths.mul(weights, change).astype(v.dtype)
        return tuple(
            total + tiles.product(dscores, part) for total, part in zip(dq, k, strict=True)
        )

    dq = jax.lax.fori_loop(
        *tiles_in_reach(start, block_q, block_kv, window, num_rows),
        add_block,
        tuple(tiles.zeros(*part.shape) for part in q),
    )
    dq = [part * (scale / tiles.LOG2_E) for part in dq]
    outputs = (dq_ref, *frequency_refs)
    _store_turned_back(dq, inputs.q, outputs, inputs.rotation, start, rows, num_rows)


def key_tile_kernel(
    *refs,
    rotated: bool,
    rows: int,
    tile: Tile,
    window: int,
    scale: float,
    maths: tiles.Maths,
):
    """Own a tile of keys: dK, dV, and this tile's share in the frequencies' gradients."""
    inputs, (dv_ref, *outputs) = _Refs.split(refs, rotated)
    num_rows = inputs.length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_kv
    key_indices = tiles.row_indices(start, block_kv)
    k = _load_parts(inputs.k, rotated, start, block_kv, num_rows)
    v = tiles.load_rows(inputs.v, start, block_kv, num_rows)

    def add_block(i, sums):
        dk, dv = sums
        q = _load_parts(inputs.q, rotated, i * block_q, block_q, num_rows)
        do = tiles.load_rows(inputs.do, i * block_q, block_q, num_rows)
        lse = tiles.load_numbers(inputs.lse, i * block_q, block_q, num_rows)
        delta = tiles.load_numbers(inputs.last, i * block_q, block_q, num_rows)
        valid = in_window(key_indices, tiles.row_indices(i * block_q, block_q), window, num_rows)
        products = jnp.where(valid, _products_of_parts(k, q), tiles.masked_product(scale))
        weights = maths.exp2(maths.fma(products, scale, -lse[None, :]))
        dv += tiles.product(weights.astype(do.dtype), do)
        change = maths.sub(tiles.product_nt(v, do), delta[None, :])
        dscores = maths.mul(weights, change).astype(do.dtype)
        dk = tuple(total + tiles.product(dscores, part) for total, part in zip(dk, q, strict=True))
        return dk, dv

    none = tuple(tiles.zeros(*part.shape) for part in k), tiles.zeros(*v.shape)
    dk, dv = jax.lax.fori_loop(
        *tiles_in_reach(start, block_kv, block_q, window, num_rows), add_block, none
    )
    dk = [part * (scale / tiles.LOG2_E) for part in dk]
    tiles.store_rows(dv_ref, start, dv, rows)
    _store_turned_back(dk, inputs.k, outputs, inputs.rotation, start, rows, num_rows)
