"""Seed attention forward.

    O_p = softmax_s(Q_p . K_s / sqrt(H)) V_s

The mirror image of GDPA: few queries, the seeds, and many keys. A program keeps one tile of seeds
and lets the keys and values of its example and head stream past, up to the true length:

    for each tile K, V of the program's keys:
        S = Q K^T / sqrt(H),  add to the online softmax

Where the batch is too small to fill the GPU, the keys are split. Every program then leaves its mean
and the logarithm of its mass, and XLA joins the splits.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from pallas_kernels import tiles
from pallas_kernels.costs import Work
from pallas_kernels.launch import (
    launch,
    of_example,
    of_split,
    rows_of_head,
    rows_of_split,
    splits_for,
)
from pallas_kernels.tile_choices import Tile


class Inputs(NamedTuple):
    """What seed attention is given; of its gradient, None stands for that of the lengths.

    Attributes:
        seeds: [1 or B, P, N, H], one set for all examples or one each; H is a power of two from
            16 on.
        key: [B, S, N, H].
        value: likewise.
        lengths: [B], valid keys.
    """

    seeds: Float[Array, "#B P N H"]
    key: Float[Array, "B S N H"]
    value: Float[Array, "B S N H"]
    lengths: Int[Array, " B"]

    def work(self) -> Work:
        """Return what every kernel of the operation computes."""
        _, keys, heads, head_dim = self.key.shape
        return Work(self.seeds.shape[1] * keys, head_dim, heads)


def key_tiles_of(split, tiles_per_program: int, length, block: int):
    """Return first and last + 1 of the tiles of valid keys that belong to a split."""
    first = split * tiles_per_program
    return first, jnp.clip(tiles.num_tiles(length, block), first, first + tiles_per_program)


def masked_beyond(products: Array, start, length, scale: float, axis: int) -> Array:
    """Mask the products of keys that lie beyond the length; the keys lie along `axis`."""
    indices = start + jax.lax.broadcasted_iota(jnp.int32, products.shape, axis)
    return jnp.where(indices < length, products, tiles.masked_product(scale))


def _kernel(
    length,
    q_ref,
    k_ref,
    v_ref,
    o_ref,
    lse_ref,
    *,
    num_seeds: int,
    tile: Tile,
    tiles_per_program: int,
    scale: float,
    maths: tiles.Maths,
):
    num_keys = length[...]
    seed_tiles = tiles.num_tiles(num_seeds, tile.block_q)
    split, start = pl.program_id(0) // seed_tiles, (pl.program_id(0) % seed_tiles) * tile.block_q
    q = tiles.load_rows(q_ref, start, tile.block_q, num_seeds)

    def add_block(j, softmax):
        k = tiles.load_rows(k_ref, j * tile.block_kv, tile.block_kv, num_keys)
        v = tiles.load_rows(v_ref, j * tile.block_kv, tile.block_kv, num_keys)
        products = tiles.product_nt(q, k)
        products = masked_beyond(products, j * tile.block_kv, num_keys, scale, 1)
        return softmax.add(products, scale, v, maths)

    softmax = jax.lax.fori_loop(
        *key_tiles_of(split, tiles_per_program, num_keys, tile.block_kv),
        add_block,
        tiles.OnlineSoftmax.empty(*q.shape),
    )
    out, lse = softmax.result()
    tiles.store_rows(o_ref, start, out, num_seeds)
    tiles.store_numbers(lse_ref, start, lse, num_seeds)


def forward(
    inputs: Inputs, *, scale: float, tile: Tile, interpret: bool
) -> tuple[Float[Array, "B P N H"], Float[Array, "B N P"]]:
    """Return the output, and log2 of every row's sum of 2^score.

    Args:
        inputs: the arrays.
        scale: factor of the scores, with log2(e) in it.
        tile: sizes.
        interpret: run the kernel in JAX.
    """
    seeds, key, value, lengths = inputs
    batch, keys, heads, head_dim = key.shape
    num_seeds = seeds.shape[1]
    seed_tiles = tiles.num_tiles(num_seeds, tile.block_q)
    key_tiles = tiles.num_tiles(keys, tile.block_kv)
    tiles_per_program = tiles.num_tiles(
        key_tiles, splits_for(batch * heads * seed_tiles, key_tiles)
    )
    splits = tiles.num_tiles(key_tiles, tiles_per_program)
    out, lse = launch(
        partial(
            _kernel,
            num_seeds=num_seeds,
            tile=tile,
            tiles_per_program=tiles_per_program,
            scale=scale,
            maths=tiles.maths_for(key.dtype, interpret),
        ),
        [lengths, seeds, key, value],
        name="seed_attention_forward",
        grid=(splits * seed_tiles, heads, batch),
        in_specs=[
            of_example(),
            rows_of_head(num_seeds, head_dim, tile.block_q, shared=seeds.shape[0] == 1),
            rows_of_head(keys, head_dim, tile.block_kv),
            rows_of_head(keys, head_dim, tile.block_kv),
        ],
        out_specs=[
            rows_of_split(num_seeds, head_dim, tile.block_q),
            of_split(num_seeds, tile.block_q),
        ],
        out_shapes=[
            (
                (splits, batch, num_seeds, heads, head_dim),
                key.dtype if splits == 1 else jnp.float32,
            ),
            ((splits, batch, heads, num_seeds), jnp.float32),
        ],
        work=inputs.work(),
        tile=tile,
        interpret=interpret,
    )
    if splits == 1:
        return out[0], lse[0]
    joined, total = _join(out, lse)
    return joined.astype(key.dtype), total


def _join(
    out: Float[Array, "splits B P N H"], lse: Float[Array, "splits B N P"]
) -> tuple[Float[Array, "B P N H"], Float[Array, "B N P"]]:
    """Join the means of the splits, each weighted with its mass."""
    peak = jnp.max(lse, axis=0)
    weights = jnp.exp2(lse - peak)
    mass = jnp.sum(weights, axis=0)
    return jnp.einsum("kbnp,kbpnh->bpnh", weights / mass, out), peak + jnp.log2(mass)
