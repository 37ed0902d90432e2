"""Seed attention backward.

With P = softmax(S), recomputed from the saved logarithm of its denominator, and with
dP = dO V^T, delta_p = dO_p . O_p, the gradient of the scores is dS = P * (dP - delta), and

    dQ = dS K / sqrt(H),   dK = dS^T Q / sqrt(H),   dV = P^T dO.

One pass, where one tile holds all seeds: a program keeps Q, dO and dQ of its head and lets the keys
stream past; every key belongs to one program, so dK and dV are stored once:

    for each tile K, V of the program's keys:
        P^T = 2^(K Q^T / sqrt(H) - lse),  dS^T = P^T * (V dO^T - delta)
        dQ += dS K,  store dV = P^T dO,  store dK = dS^T Q

Two sweeps otherwise: the same with one program for each tile of seeds and without dK and dV, and a
kernel with one program for each tile of keys that visits all seeds. dQ is a sum over the splits of
the keys and, for seeds that the batch shares, over the examples: partial sums in f32, added by XLA.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from pallas_kernels import tiles
from pallas_kernels.launch import (
    launch,
    of_example,
    of_head,
    rows_of_head,
    rows_of_split,
    splits_for,
)
from pallas_kernels.seed_attention.forward import Inputs, key_tiles_of, masked_beyond
from pallas_kernels.tile_choices import Tile


class _Refs(NamedTuple):
    """What a program sees of the inputs, in the order in which they are launched.

    Attributes:
        length: of its example.
        seeds: to seeds, cotangent, lse and delta of its example and head.
        k: rows of its example and head.
        v: likewise.
    """

    length: Any
    seeds: Sequence[Any]
    k: Any
    v: Any

    @classmethod
    def split(cls, refs: Sequence[Any]) -> tuple["_Refs", Sequence[Any]]:
        """Return the inputs and the outputs."""
        length, *seeds, k, v = refs[:7]
        return cls(length, seeds, k, v), refs[7:]


class _Seeds(NamedTuple):
    """A tile of seeds and what belongs to its rows."""

    q: Array
    do: Array
    lse: Array
    delta: Array

    @classmethod
    def load(cls, refs, start, block: int, num_seeds: int) -> "_Seeds":
        """Load the tile from the references to seeds, cotangent, lse and delta."""
        q_ref, do_ref, lse_ref, delta_ref = refs
        return cls(
            tiles.load_rows(q_ref, start, block, num_seeds),
            tiles.load_rows(do_ref, start, block, num_seeds),
            tiles.load_numbers(lse_ref, start, block, num_seeds),
            tiles.load_numbers(delta_ref, start, block, num_seeds),
        )

    def weights_and_slopes(
        self, k: Array, v: Array, key_start, num_keys, scale: float, maths: tiles.Maths
    ) -> tuple[Array, Array]:
        """Return P^T and dS^T, [S, P] in the inputs' dtype."""
        products = masked_beyond(tiles.product_nt(k, self.q), key_start, num_keys, scale, 0)
        weights = maths.exp2(maths.fma(products, scale, -self.lse[None, :]))
        change = maths.sub(tiles.product_nt(v, self.do), self.delta[None, :])
        slopes = maths.mul(weights, change)
        return weights.astype(k.dtype), slopes.astype(k.dtype)


def _seed_tile_kernel(
    *refs,
    num_seeds: int,
    keys: int,
    tile: Tile,
    tiles_per_program: int,
    scale: float,
    maths: tiles.Maths,
):
    inputs, (dq_ref, *dk_dv_refs) = _Refs.split(refs)
    num_keys = inputs.length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    seed_tiles = tiles.num_tiles(num_seeds, block_q)
    split, start = pl.program_id(0) // seed_tiles, (pl.program_id(0) % seed_tiles) * block_q
    first, last_valid = key_tiles_of(split, tiles_per_program, num_keys, block_kv)
    seeds = _Seeds.load(inputs.seeds, start, block_q, num_seeds)

    def one_tile(j, dq):
        key_start = j * block_kv
        k = tiles.load_rows(inputs.k, key_start, block_kv, num_keys)
        v = tiles.load_rows(inputs.v, key_start, block_kv, num_keys)
        weights, slopes = seeds.weights_and_slopes(k, v, key_start, num_keys, scale, maths)
        # Before the stores: after them, the compiler would run the products one at a time.
        dq += tiles.product_tn(slopes, k)
        if dk_dv_refs:
            dk_ref, dv_ref = dk_dv_refs
            tiles.store_rows(dv_ref, key_start, tiles.product(weights, seeds.do), keys)
            dk = tiles.product(slopes, seeds.q) * (scale / tiles.LOG2_E)
            tiles.store_rows(dk_ref, key_start, dk, keys)
        return dq

    dq = jax.lax.fori_loop(first, last_valid, one_tile, tiles.zeros(*seeds.q.shape))
    tiles.store_rows(dq_ref, start, dq * (scale / tiles.LOG2_E), num_seeds)
    last = jnp.minimum(first + tiles_per_program, tiles.num_tiles(keys, block_kv))
    for ref in dk_dv_refs:
        tiles.store_zeros(ref, last_valid, last, block_kv, keys)


def _key_tile_kernel(
    *refs,
    num_seeds: int,
    keys: int,
    tile: Tile,
    scale: float,
    maths: tiles.Maths,
):
    inputs, (dk_ref, dv_ref) = _Refs.split(refs)
    num_keys = inputs.length[...]
    key_start = pl.program_id(0) * tile.block_kv
    k = tiles.load_rows(inputs.k, key_start, tile.block_kv, num_keys)
    v = tiles.load_rows(inputs.v, key_start, tile.block_kv, num_keys)

    def one_tile(i, sums):
        dk, dv = sums
        seeds = _Seeds.load(inputs.seeds, i * tile.block_q, tile.block_q, num_seeds)
        weights, slopes = seeds.weights_and_slopes(k, v, key_start, num_keys, scale, maths)
        return dk + tiles.product(slopes, seeds.q), dv + tiles.product(weights, seeds.do)

    # A tile of padding only visits no seed, and stores zeros.
    # int32 as the loop's bounds are: Triton takes a choice between two Python numbers for int64.
    num_tiles = jnp.int32(tiles.num_tiles(num_seeds, tile.block_q))
    num_tiles = jnp.where(key_start < num_keys, num_tiles, 0)
    none = tiles.zeros(*k.shape)
    dk, dv = jax.lax.fori_loop(0, num_tiles, one_tile, (none, none))
    tiles.store_rows(dk_ref, key_start, dk * (scale / tiles.LOG2_E), keys)
    tiles.store_rows(dv_ref, key_start, dv, keys)


def backward(
    inputs: Inputs,
    out: Float[Array, "B P N H"],
    lse: Float[Array, "B N P"],
    cotangent: Float[Array, "B P N H"],
    *,
    scale: float,
    seed_tile: Tile,
    key_tile: Tile,
    interpret: bool,
) -> Inputs:
    """Return the gradients of sum(cotangent * output).

    Args:
        inputs: what the forward pass was given.
        out: what the forward pass returned.
        lse: likewise.
        cotangent: in the dtype of the others.
        scale: factor of the scores, with log2(e) in it.
        seed_tile: sizes of the pass over tiles of seeds; the only one where its block holds them.
        key_tile: sizes of the sweep for dK and dV.
        interpret: run the kernels in JAX.
    """
    seeds, key, value, lengths = inputs
    batch, keys, heads, head_dim = key.shape
    shared, num_seeds = seeds.shape[0] == 1, seeds.shape[1]
    delta = jnp.einsum("bpnh,bpnh->bnp", cotangent, out, preferred_element_type=jnp.float32)
    seed_tiles = tiles.num_tiles(num_seeds, seed_tile.block_q)
    key_tiles = tiles.num_tiles(keys, seed_tile.block_kv)
    tiles_per_program = tiles.num_tiles(
        key_tiles, splits_for(batch * heads * seed_tiles, key_tiles)
    )
    splits = tiles.num_tiles(key_tiles, tiles_per_program)
    options = dict(
        num_seeds=num_seeds,
        keys=keys,
        scale=scale,
        maths=tiles.maths_for(key.dtype, interpret),
    )

    def run(kernel, name: str, tile: Tile, parts: int, out_specs, out_shapes) -> Sequence[Array]:
        padded = tiles.num_tiles(num_seeds, tile.block_q) * tile.block_q
        of_keys = rows_of_head(keys, head_dim, tile.block_kv)
        return launch(
            partial(kernel, tile=tile, **options),
            [lengths, seeds, cotangent, lse, delta, key, value],
            name=name,
            grid=(parts, heads, batch),
            in_specs=[
                of_example(),
                rows_of_head(num_seeds, head_dim, tile.block_q, shared=shared),
                rows_of_head(num_seeds, head_dim, tile.block_q),
                of_head(padded),
                of_head(padded),
                of_keys,
                of_keys,
            ],
            out_specs=[*out_specs, *[of_keys] * (len(out_shapes) - len(out_specs))],
            out_shapes=out_shapes,
            work=inputs.work(),
            tile=tile,
            interpret=interpret,
        )

    one_pass = seed_tiles == 1
    of_keys = [(key.shape, key.dtype), (value.shape, value.dtype)]
    dseeds, *dkeys = run(
        partial(_seed_tile_kernel, tiles_per_program=tiles_per_program),
        "seed_attention_backward" if one_pass else "seed_attention_backward_seeds",
        seed_tile,
        splits * seed_tiles,
        [rows_of_split(num_seeds, head_dim, seed_tile.block_q)],
        [((splits, batch, num_seeds, heads, head_dim), jnp.float32), *of_keys * one_pass],
    )
    if not one_pass:
        dkeys = run(
            _key_tile_kernel,
            "seed_attention_backward_keys",
            key_tile,
            tiles.num_tiles(keys, key_tile.block_kv),
            [],
            of_keys,
        )
    axes = (0, 1) if shared else 0
    dseeds = jnp.sum(dseeds, axis=axes).reshape(seeds.shape).astype(seeds.dtype)
    dkey, dvalue = dkeys
    return inputs._replace(seeds=dseeds, key=dkey, value=dvalue, lengths=None)
