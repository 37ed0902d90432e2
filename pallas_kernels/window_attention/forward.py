"""Window attention forward.

    O_t = softmax_s(Q_t . K_s / sqrt(H)) V_s,   |t - s| <= w

A program owns one tile of queries and visits the tiles of keys that its window reaches, and no
other, so time is O(T w):

    for each tile K, V of the keys first - w .. last + w, cut off at the true length:
        S = Q K^T / sqrt(H), masked outside the window,  add to the online softmax
    store O and the logarithm of the softmax's denominator

Queries and keys come rotated (ROTE): every tile of keys is visited by several programs, which would
turn it again each time, and turning a row costs as much as its scores.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from pallas_kernels import tiles
from pallas_kernels.costs import Work, attended_pairs
from pallas_kernels.launch import launch, of_example, of_head, rows_of_head
from pallas_kernels.tile_choices import Tile

# Farther than any window; twice it still fits 31 bits.
_FAR = 2**29


class Inputs(NamedTuple):
    """What the kernels are given.

    Attributes:
        query: [B, T, N, H], rotated; H is a power of two from 16 on, from 32 on with a rotation.
        key: likewise.
        value: of the same shape, not rotated.
        lengths: [B], valid rows.
    """

    query: Float[Array, "B T N H"]
    key: Float[Array, "B T N H"]
    value: Float[Array, "B T N H"]
    lengths: Int[Array, " B"]

    def work(self, window: int) -> Work:
        """Return what every kernel of the operation computes."""
        _, rows, heads, head_dim = self.query.shape
        return Work(attended_pairs(rows, window), head_dim, heads)


def tiles_in_reach(start, block: int, other_block: int, window: int, length):
    """Return first and last + 1 of the other side's tiles that rows start .. start + block reach.

    A tile of padding only reaches nothing.
    """
    first = jnp.maximum(start - window, 0) // other_block
    end = jnp.minimum(start + block + window, length)
    last = tiles.num_tiles(end, other_block)
    return first, jnp.where(start < length, last, first)


def in_window(rows: Array, columns: Array, window: int, length) -> Array:
    """Return which pairs are valid and within the window; indices [M] and [S] give [M, S].

    The condition is symmetric, so that queries may be the rows or the columns.
    """
    # 0 <= s - (t - w) <= min(2 w, length - 1 - (t - w)): one comparison of unsigned numbers. A row
    # of padding is moved out of everyone's reach.
    low = jnp.where(rows < length, rows - window, -_FAR)
    reach = jnp.minimum(2 * window, length - 1 - low).astype(jnp.uint32)
    distance = (columns[None, :] - low[:, None]).astype(jnp.uint32)
    return distance <= reach[:, None]


def _kernel(
    length,
    q_ref,
    k_ref,
    v_ref,
    o_ref,
    lse_ref,
    *,
    rows: int,
    tile: Tile,
    window: int,
    scale: float,
    maths: tiles.Maths,
):
    num_rows = length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_q
    row_indices = tiles.row_indices(start, block_q)
    q = tiles.load_rows(q_ref, start, block_q, num_rows)

    def add_block(j, softmax):
        k = tiles.load_rows(k_ref, j * block_kv, block_kv, num_rows)
        v = tiles.load_rows(v_ref, j * block_kv, block_kv, num_rows)
        columns = tiles.row_indices(j * block_kv, block_kv)
        valid = in_window(row_indices, columns, window, num_rows)
        products = jnp.where(valid, tiles.product_nt(q, k), tiles.masked_product(scale))
        return softmax.add(products, scale, v, maths)

    softmax = jax.lax.fori_loop(
        *tiles_in_reach(start, block_q, block_kv, window, num_rows),
        add_block,
        tiles.OnlineSoftmax.empty(block_q, v_ref.shape[1]),
    )
    out, lse = softmax.result()
    tiles.store_rows(o_ref, start, out, rows)
    tiles.store_numbers(lse_ref, start, lse, rows)


def forward(
    inputs: Inputs, *, window: int, scale: float, tile: Tile, interpret: bool
) -> tuple[Float[Array, "B T N H"], Float[Array, "B N T"]]:
    """Return the output, and log2 of every row's sum of 2^score.

    Args:
        inputs: the arrays.
        window: w.
        scale: factor of the scores, with log2(e) in it.
        tile: sizes.
        interpret: run the kernel in JAX.
    """
    query, key, value, lengths = inputs
    batch, rows, heads, head_dim = query.shape
    views = Views.of(rows, head_dim, tile)
    out, lse = launch(
        partial(
            _kernel,
            rows=rows,
            tile=tile,
            window=window,
            scale=scale,
            maths=tiles.maths_for(query.dtype, interpret),
        ),
        [lengths, query, key, value],
        name="window_attention_forward",
        grid=(tiles.num_tiles(rows, tile.block_q), heads, batch),
        in_specs=[of_example(), views.rows, views.rows, views.rows],
        out_specs=[views.rows, views.row_numbers],
        out_shapes=[(query.shape, query.dtype), ((batch, heads, rows), jnp.float32)],
        work=inputs.work(window),
        tile=tile,
        interpret=interpret,
    )
    return out, lse


class Views(NamedTuple):
    """How a program sees each kind of array; always a whole number of tiles.

    Attributes:
        rows: [B, T, N, H], of its example and head.
        row_numbers: [B, N, T], likewise.
        table: [B, T, H/2], of its example.
        numbers: [B, T], likewise.
    """

    rows: pl.BlockSpec
    row_numbers: pl.BlockSpec
    table: pl.BlockSpec
    numbers: pl.BlockSpec

    @classmethod
    def of(cls, rows: int, head_dim: int, tile: Tile) -> "Views":
        """Return the views of sequences of `rows` rows."""
        block = max(tile.block_q, tile.block_kv)
        padded = tiles.num_tiles(rows, block) * block
        return cls(
            rows_of_head(rows, head_dim, block),
            of_head(padded),
            of_example(padded, head_dim // 2),
            of_example(padded),
        )
