"""GDPA backward.

With S = s_in Q K^T, P = act(S), dP = dO V^T, the gradient of the scores is dS = act'(S) * dP, and

    dQ = s_in dS K,   dK = s_in dS^T Q,   dV = P^T dO,   ds_in = sum(dS * Q K^T) = sum(K * dS^T Q),

all times s_out. Nothing of the forward pass is saved but its inputs: S costs one product again, and
act and act' share their transcendental function.

One pass, where one tile holds all keys and dQ is not left apart: a program keeps K, V, dK and dV of
its head and lets the query tiles stream past. It works on transposed scores, so that P^T and dS^T
leave the registers as the left operands of the next products:

    for each tile Q, dO of the program's queries:
        S^T = s_in K Q^T,  dP^T = V dO^T
        dV += act(S^T) dO,  dS^T = act'(S^T) * dP^T,  dK += dS^T Q,  store dQ = dS K

dQ last lets the GPU run the products side by side; dQ first needs fewer registers, but they then
run one at a time (`Tile.query_gradient`).

Two sweeps otherwise: the same with one program for each tile of keys and without dQ, and a second
kernel that looks like the forward pass,

    for each tile Q, dO of queries:
        dQ = sum_j (act'(s_in Q K_j^T) * dO V_j^T) K_j

Each sum belongs to one program, so nothing is atomic. Where the batch is too small to fill the GPU,
queries are split, and the partial dK and dV, in f32, are summed by XLA.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from pallas_kernels import tiles
from pallas_kernels.activations import activate_with_derivative
from pallas_kernels.gdpa.forward import Inputs, Refs, for_activation_of_head
from pallas_kernels.launch import (
    launch,
    of_example,
    of_head,
    of_part,
    rows_of_head,
    rows_of_split,
    splits_for,
)
from pallas_kernels.tile_choices import Tile


def _key_tile_kernel(
    *refs,
    rows: int,
    keys: int,
    tile: Tile,
    activations: tuple[str, ...],
    scale_out: float,
    tiles_per_program: int,
    maths: tiles.Maths,
):
    inputs, (do_ref, dk_ref, dv_ref, dscale_ref, *dq_refs) = Refs(*refs[:6]), refs[6:]
    num_rows, num_keys, scale = (ref[...] for ref in inputs[:3])
    block_q, block_kv, head_dim = tile.block_q, tile.block_kv, inputs.q.shape[1]
    key_tile = pl.program_id(0) % tiles.num_tiles(keys, block_kv)
    split = pl.program_id(0) // tiles.num_tiles(keys, block_kv)
    key_start = key_tile * block_kv
    first = split * tiles_per_program
    last = jnp.minimum(first + tiles_per_program, tiles.num_tiles(rows, block_q))
    last_valid = jnp.clip(tiles.num_tiles(num_rows, block_q), first, last)

    def body(activation: str) -> None:
        k = tiles.load_rows(inputs.k, key_start, block_kv, num_keys)
        v = tiles.load_rows(inputs.v, key_start, block_kv, num_keys)

        def store_query_gradient(start, dscores):
            for dq_ref in dq_refs:
                dq = tiles.product_tn(dscores, k)
                tiles.store_rows(dq_ref, start, dq * (scale * scale_out), rows)

        def one_tile(i, sums):
            dk, dv = sums
            start = i * block_q
            q = tiles.load_rows(inputs.q, start, block_q, num_rows)
            do = tiles.load_rows(do_ref, start, block_q, num_rows)
            weights, slopes = activate_with_derivative(
                tiles.product_nt(k, q), activation, maths.activations, scale=scale
            )
            dv += tiles.product(weights.astype(do.dtype), do)
            dscores = maths.mul(slopes, tiles.product_nt(v, do)).astype(q.dtype)
            if tile.query_gradient == "first":
                store_query_gradient(start, dscores)
            dk += tiles.product(dscores, q)
            if tile.query_gradient == "last":
                store_query_gradient(start, dscores)
            return dk, dv

        none = tiles.zeros(block_kv, head_dim)
        dk, dv = jax.lax.fori_loop(first, last_valid, one_tile, (none, none))
        dk *= scale_out
        tiles.store_rows(dk_ref, key_start, dk * scale, keys)
        tiles.store_rows(dv_ref, key_start, dv * scale_out, keys)
        # Loaded again: k from above would occupy registers during the whole loop.
        k = tiles.load_rows(inputs.k, key_start, block_kv, num_keys)
        dscale_ref[...] = jnp.sum(dk * k.astype(jnp.float32))

    for_activation_of_head(activations, body)
    for dq_ref in dq_refs:
        tiles.store_zeros(dq_ref, last_valid, last, block_q, rows)


def _query_tile_kernel(
    *refs,
    rows: int,
    tile: Tile,
    activations: tuple[str, ...],
    scale_out: float,
    maths: tiles.Maths,
):
    inputs, (do_ref, dq_ref) = Refs(*refs[:6]), refs[6:]
    num_rows, num_keys, scale = (ref[...] for ref in inputs[:3])
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_q

    def body(activation: str) -> None:
        q = tiles.load_rows(inputs.q, start, block_q, num_rows)
        do = tiles.load_rows(do_ref, start, block_q, num_rows)

        def add_block(j, dq):
            k = tiles.load_rows(inputs.k, j * block_kv, block_kv, num_keys)
            v = tiles.load_rows(inputs.v, j * block_kv, block_kv, num_keys)
            _, slopes = activate_with_derivative(
                tiles.product_nt(q, k), activation, maths.activations, scale=scale
            )
            dscores = maths.mul(slopes, tiles.product_nt(do, v))
            return dq + tiles.product(dscores.astype(k.dtype), k)

        # A tile of padding only visits no key, and stores zeros.
        num_blocks = jnp.where(start < num_rows, tiles.num_tiles(num_keys, block_kv), 0)
        dq = jax.lax.fori_loop(0, num_blocks, add_block, tiles.zeros(*q.shape))
        tiles.store_rows(dq_ref, start, dq * (scale * scale_out), rows)

    for_activation_of_head(activations, body)


def takes_one_pass(keys: int, key_tile: Tile) -> bool:
    """Return whether the pass over tiles of keys stores dQ too."""
    return keys <= key_tile.block_kv and key_tile.query_gradient != "apart"


def backward(
    inputs: Inputs,
    cotangent: Float[Array, "B T N H"],
    *,
    activations: tuple[str, ...],
    scale_out: float,
    key_tile: Tile,
    query_tile: Tile,
    interpret: bool,
) -> Inputs:
    """Return the gradients of sum(cotangent * output).

    Args:
        inputs: what the forward pass was given.
        cotangent: in the dtype of the others.
        activations: one name a head.
        scale_out: factor of the output.
        key_tile: sizes of the pass over tiles of keys; the only one where its block holds them all.
        query_tile: sizes of the sweep for dQ.
        interpret: run the kernels in JAX.
    """
    query, key = inputs.query, inputs.key
    batch, rows, heads, head_dim = query.shape
    keys = key.shape[1]
    key_tiles = tiles.num_tiles(keys, key_tile.block_kv)
    row_tiles = tiles.num_tiles(rows, key_tile.block_q)
    splits = splits_for(batch * heads * key_tiles, row_tiles)
    tiles_per_program = tiles.num_tiles(row_tiles, splits)
    splits = tiles.num_tiles(row_tiles, tiles_per_program)
    maths = tiles.maths_for(query.dtype, interpret)
    options = {"rows": rows, "activations": activations, "scale_out": scale_out, "maths": maths}
    arrays, work = [*inputs[3:], *inputs[:3], cotangent], inputs.work(activations)

    def in_specs(tile: Tile) -> list[pl.BlockSpec]:
        of_queries = rows_of_head(rows, head_dim, tile.block_q)
        of_keys = rows_of_head(keys, head_dim, tile.block_kv)
        lengths = [of_example(), of_example()]
        return [*lengths, of_head(), of_queries, of_keys, of_keys, of_queries]

    one_pass = takes_one_pass(keys, key_tile)
    # With the part of the grid counting the splits of the queries in its outer, the tiles of the
    # keys in its inner digit, programs that run together read the same queries.
    of_keys = ((splits, *key.shape), key.dtype if splits == 1 else jnp.float32)
    of_scales = ((splits * key_tiles, batch, heads), jnp.float32)
    of_queries = (query.shape, query.dtype)
    dkey, dvalue, dscale, *dquery = launch(
        partial(
            _key_tile_kernel,
            keys=keys,
            tile=key_tile,
            tiles_per_program=tiles_per_program,
            **options,
        ),
        arrays,
        name="gdpa_backward" if one_pass else "gdpa_backward_keys",
        grid=(splits * key_tiles, heads, batch),
        in_specs=in_specs(key_tile),
        out_specs=[
            rows_of_split(keys, head_dim, key_tile.block_kv),
            rows_of_split(keys, head_dim, key_tile.block_kv),
            of_part(),
            *[rows_of_head(rows, head_dim, key_tile.block_q)] * one_pass,
        ],
        out_shapes=[of_keys, of_keys, of_scales, *[of_queries] * one_pass],
        work=work,
        tile=key_tile,
        interpret=interpret,
    )
    if not one_pass:
        dquery = launch(
            partial(_query_tile_kernel, tile=query_tile, **options),
            arrays,
            name="gdpa_backward_queries",
            grid=(tiles.num_tiles(rows, query_tile.block_q), heads, batch),
            in_specs=in_specs(query_tile),
            out_specs=[rows_of_head(rows, head_dim, query_tile.block_q)],
            out_shapes=[of_queries],
            work=work,
            tile=query_tile,
            interpret=interpret,
        )
    return inputs._replace(
        query=dquery[0],
        key=jnp.sum(dkey, axis=0).astype(key.dtype),
        value=jnp.sum(dvalue, axis=0).astype(key.dtype),
        query_lengths=None,
        key_lengths=None,
        scale_in=jnp.sum(dscale, axis=0),
    )
