"""GDPA forward.

    O_t = s_out * sum_s act(s_in * Q_t K_s^T) V_s

Queries are many and keys few, so a program loads the keys and values of its head once, keeps them
on the multiprocessor, and lets the query tiles stream past:

    K_1 .. K_m, V_1 .. V_m  <-  tiles of the keys and values            (once)
    for each tile Q of the program's queries:
        O = sum_j act(s_in * Q K_j^T) V_j
        store O

Where keys and values are too many to keep, the sum over j is a loop that loads them again for every
query tile. act(0) = 0, so that padded keys, loaded as zeros, need no mask. Rows of padded queries
are stored as zeros without any product.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from pallas_kernels import tiles
from pallas_kernels.activations import TRANSCENDENTAL, activate
from pallas_kernels.costs import Work
from pallas_kernels.launch import launch, of_example, of_head, rows_of_head, splits_for
from pallas_kernels.tile_choices import Tile

# Keys and values that one program keeps on the multiprocessor, in bytes; an H200 has 227 KiB, of
# which the query tiles in flight take up to 64. A tile may allow less.
RESIDENT_BYTES = 131_072


class Inputs(NamedTuple):
    """What GDPA is given; of its gradient, None stands for those of the lengths.

    Attributes:
        query: [B, T, N, H]; H is a power of two from 16 on.
        key: [B, S, N, H].
        value: likewise.
        query_lengths: [B], valid rows of the queries.
        key_lengths: [B], valid rows of keys and values.
        scale_in: [B, N] f32, factor of the scores.
    """

    query: Float[Array, "B T N H"]
    key: Float[Array, "B S N H"]
    value: Float[Array, "B S N H"]
    query_lengths: Int[Array, " B"]
    key_lengths: Int[Array, " B"]
    scale_in: Float[Array, "B N"]

    def work(self, activations: tuple[str, ...]) -> Work:
        """Return what every kernel of the operation computes; one activation a head."""
        pairs = self.query.shape[1] * self.key.shape[1]
        functions = sum(name in TRANSCENDENTAL for name in activations)
        return Work(pairs, self.query.shape[-1], functions)


class Refs(NamedTuple):
    """What a program sees of the inputs, in the order in which they are launched.

    Attributes:
        query_length: of its example.
        key_length: likewise.
        scale_in: of its head.
        q: rows of its example and head.
        k: likewise.
        v: likewise.
    """

    query_length: Any
    key_length: Any
    scale_in: Any
    q: Any
    k: Any
    v: Any


def for_activation_of_head(activations: tuple[str, ...], body) -> None:
    """Run `body(name)` with the activation of this program's head.

    A kernel whose heads differ holds one copy of its body for each name: the choice is made once a
    program, not inside its loops.
    """
    names = sorted(set(activations))
    if len(names) == 1:
        body(names[0])
        return
    head = pl.program_id(1)
    for name in names:
        of_name = [index for index, other in enumerate(activations) if other == name]
        mine = head == of_name[0]
        for index in of_name[1:]:
            mine |= head == index
        pl.when(mine)(partial(body, name))


def _kernel(
    *refs,
    rows: int,
    tile: Tile,
    activations: tuple[str, ...],
    scale_out: float,
    tiles_per_program: int,
    resident: bool,
    maths: tiles.Maths,
):
    inputs, [o_ref] = Refs(*refs[:6]), refs[6:]
    num_rows, num_keys = inputs.query_length[...], inputs.key_length[...]
    scale = inputs.scale_in[...]
    first = pl.program_id(0) * tiles_per_program
    last = jnp.minimum(first + tiles_per_program, tiles.num_tiles(rows, tile.block_q))
    last_valid = jnp.clip(tiles.num_tiles(num_rows, tile.block_q), first, last)
    block_kv, head_dim = tile.block_kv, inputs.q.shape[1]

    def load_key_block(j):
        start = j * block_kv
        return (
            tiles.load_rows(inputs.k, start, block_kv, num_keys),
            tiles.load_rows(inputs.v, start, block_kv, num_keys),
        )

    def body(activation: str) -> None:
        if resident:
            key_blocks = [
                load_key_block(j) for j in range(tiles.num_tiles(inputs.k.shape[0], block_kv))
            ]

        def add_block(total, q, k, v):
            weights = activate(tiles.product_nt(q, k), activation, maths.activations, scale=scale)
            return total + tiles.product(weights.astype(v.dtype), v)

        def one_tile(i, _):
            start = i * tile.block_q
            q = tiles.load_rows(inputs.q, start, tile.block_q, num_rows)
            total = tiles.zeros(tile.block_q, head_dim)
            if resident:
                for k, v in key_blocks:
                    total = add_block(total, q, k, v)
            else:
                total = jax.lax.fori_loop(
                    0,
                    tiles.num_tiles(num_keys, block_kv),
                    lambda j, total: add_block(total, q, *load_key_block(j)),
                    total,
                )
            tiles.store_rows(o_ref, start, total * scale_out, rows)
            return _

        jax.lax.fori_loop(first, last_valid, one_tile, 0)

    for_activation_of_head(activations, body)
    tiles.store_zeros(o_ref, last_valid, last, tile.block_q, rows)


def keeps_keys(keys: int, head_dim: int, itemsize: int, tile: Tile) -> bool:
    """Return whether a program loads the keys and values of its head once."""
    padded_keys = tiles.num_tiles(keys, tile.block_kv) * tile.block_kv
    num_bytes = 2 * padded_keys * head_dim * itemsize
    return num_bytes <= min(RESIDENT_BYTES, tile.resident_bytes)


def forward(
    inputs: Inputs,
    *,
    activations: tuple[str, ...],
    scale_out: float,
    tile: Tile,
    interpret: bool,
) -> Float[Array, "B T N H"]:
    """Return the output of GDPA; the tile's sizes are powers of two from 16 on."""
    query, key = inputs.query, inputs.key
    batch, rows, heads, head_dim = query.shape
    keys = key.shape[1]
    resident = keeps_keys(keys, head_dim, query.dtype.itemsize, tile)
    row_tiles = tiles.num_tiles(rows, tile.block_q)
    splits = splits_for(batch * heads, row_tiles) if resident else row_tiles
    kernel = partial(
        _kernel,
        rows=rows,
        tile=tile,
        activations=activations,
        scale_out=scale_out,
        tiles_per_program=tiles.num_tiles(row_tiles, splits),
        resident=resident,
        maths=tiles.maths_for(query.dtype, interpret),
    )
    [out] = launch(
        kernel,
        [*inputs[3:], *inputs[:3]],
        name="gdpa_forward",
        grid=(splits, heads, batch),
        in_specs=[
            of_example(),
            of_example(),
            of_head(),
            rows_of_head(rows, head_dim, tile.block_q),
            rows_of_head(keys, head_dim, tile.block_kv),
            rows_of_head(keys, head_dim, tile.block_kv),
        ],
        out_specs=[rows_of_head(rows, head_dim, tile.block_q)],
        out_shapes=[(query.shape, query.dtype)],
        work=inputs.work(activations),
        tile=tile,
        interpret=interpret,
    )
    return out
