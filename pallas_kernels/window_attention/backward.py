"""Window attention backward.

With P = softmax(S), recomputed from the saved logarithm of its denominator, and with
dP = dO V^T, delta_t = dO_t . O_t, the gradient of the scores is dS = P * (dP - delta), and

    dQ = R^T (dS (R K)) / sqrt(H),   dK = R^T (dS^T (R Q)) / sqrt(H),   dV = P^T dO.

Two kernels with the same arithmetic of windows, so that each sum belongs to one program: one owns a
tile of queries and visits the keys in its reach, the other owns a tile of keys and visits the
queries in its reach.

The angle of pair i at row t is position_t * theta_i + time_t * phi_i. Turning a pair (a, b) further
changes it by (-b, a), so a row's share in the gradient of its angle is a dB - b dA, with the
gradients dA, dB of the turned pair; theta and phi collect it times the row's position and time.
Every program leaves one partial sum, which XLA adds up.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from pallas_kernels import tiles
from pallas_kernels.launch import launch, of_example, of_part
from pallas_kernels.tile_choices import Tile
from pallas_kernels.window_attention.forward import (
    Views,
    halves,
    in_window,
    load_parts,
    load_rotation,
    scores_of_parts,
    tiles_in_reach,
)


class Rotation(NamedTuple):
    """ROTE of a batch.

    Attributes:
        sin: [B, T, H/2] f32, of the angles.
        cos: likewise.
        positions: [B, T] f32, what theta multiplies.
        times: [B, T] f32, what phi multiplies.
    """

    sin: Array
    cos: Array
    positions: Array
    times: Array


class Gradients(NamedTuple):
    """Gradients of window attention's differentiable inputs.

    Attributes:
        query: [B, T, N, H].
        key: [B, T, N, H].
        value: [B, T, N, H].
        theta: [H/2] f32, of the frequencies of the positions; None without a rotation.
        phi: [H/2] f32, of the frequencies of the times; None without a rotation.
    """

    query: Array
    key: Array
    value: Array
    theta: Array | None
    phi: Array | None


def _store_turned_back(gradients, rows_ref, refs, rotation, start, rows: int, end) -> None:
    """Store the gradient of unturned rows, and this program's share in those of theta and phi.

    Args:
        gradients: of the parts that entered the scores, f32.
        rows_ref: the rows of query or key, unturned.
        refs: where the rows' gradients go and, with a rotation, those of theta and phi.
        rotation: references to the fields of `Rotation`, or None.
        start: first row of the tile.
        rows: rows of the array.
        end: valid rows.
    """
    if rotation is None:
        [ref] = refs
        tiles.store_rows(ref, start, gradients[0], rows)
        return
    ref, dtheta_ref, dphi_ref = refs
    *table, positions_ref, times_ref = rotation
    block = gradients[0].shape[0]
    left, right = halves(ref.shape[1])
    # Plus 0, which the compiler does not know: it would merge these loads with those from before
    # the loop, and hold what they gave in registers all through it.
    start += jnp.minimum(end, 0)
    first, second = gradients
    sin, cos = load_rotation(table, start, block, end)
    tiles.store_rows(ref, start, first * cos + second * sin, rows, left)
    tiles.store_rows(ref, start, second * cos - first * sin, rows, right)
    # Turned and rounded as they entered the scores: only then do both kernels credit a pair of rows
    # with the same change of their angle, so that positions far from 0 cancel.
    a, b = load_parts(rows_ref, table, start, block, end)
    turn = a.astype(jnp.float32) * second - b.astype(jnp.float32) * first
    for values_ref, out_ref in ((positions_ref, dtheta_ref), (times_ref, dphi_ref)):
        values = tiles.load_numbers(values_ref, start, block, end)
        out_ref[...] = jnp.sum(values[:, None] * turn, axis=0)


def _query_tile_kernel(
    length,
    q_ref,
    k_ref,
    v_ref,
    do_ref,
    lse_ref,
    delta_ref,
    *refs,
    rotated: bool,
    rows: int,
    tile: Tile,
    window: int,
    scale: float,
    maths: tiles.Maths,
):
    rotation = refs[:4] if rotated else None
    table = rotation[:2] if rotation else None
    num_rows = length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_q
    row_indices = tiles.row_indices(start, block_q)
    q = load_parts(q_ref, table, start, block_q, num_rows)
    do = tiles.load_rows(do_ref, start, block_q, num_rows)
    lse = tiles.load_numbers(lse_ref, start, block_q, num_rows)
    delta = tiles.load_numbers(delta_ref, start, block_q, num_rows)

    def add_block(j, dq):
        k = load_parts(k_ref, table, j * block_kv, block_kv, num_rows)
        v = tiles.load_rows(v_ref, j * block_kv, block_kv, num_rows)
        columns = tiles.row_indices(j * block_kv, block_kv)
        valid = in_window(row_indices, columns, window, num_rows)
        scores = jnp.where(valid, scores_of_parts(q, k) * scale, tiles.MASKED)
        weights = maths.exp2(scores - lse[:, None])
        dscores = (weights * (tiles.product_nt(do, v) - delta[:, None])).astype(v.dtype)
        return tuple(
            total + tiles.product(dscores, part) for total, part in zip(dq, k, strict=True)
        )

    dq = jax.lax.fori_loop(
        *tiles_in_reach(start, block_q, block_kv, window, num_rows),
        add_block,
        tuple(tiles.zeros(*part.shape) for part in q),
    )
    dq = [part * (scale / tiles.LOG2_E) for part in dq]
    outputs = refs[4:] if rotated else refs
    _store_turned_back(dq, q_ref, outputs, rotation, start, rows, num_rows)


def _key_tile_kernel(
    length,
    q_ref,
    k_ref,
    v_ref,
    do_ref,
    lse_ref,
    delta_ref,
    *refs,
    rotated: bool,
    rows: int,
    tile: Tile,
    window: int,
    scale: float,
    maths: tiles.Maths,
):
    rotation = refs[:4] if rotated else None
    table = rotation[:2] if rotation else None
    num_rows = length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_kv
    key_indices = tiles.row_indices(start, block_kv)
    k = load_parts(k_ref, table, start, block_kv, num_rows)
    v = tiles.load_rows(v_ref, start, block_kv, num_rows)

    def add_block(i, sums):
        dk, dv = sums
        q = load_parts(q_ref, table, i * block_q, block_q, num_rows)
        do = tiles.load_rows(do_ref, i * block_q, block_q, num_rows)
        lse = tiles.load_numbers(lse_ref, i * block_q, block_q, num_rows)
        delta = tiles.load_numbers(delta_ref, i * block_q, block_q, num_rows)
        valid = in_window(key_indices, tiles.row_indices(i * block_q, block_q), window, num_rows)
        scores = jnp.where(valid, scores_of_parts(k, q) * scale, tiles.MASKED)
        weights = maths.exp2(scores - lse[None, :])
        dv += tiles.product(weights.astype(do.dtype), do)
        dscores = (weights * (tiles.product_nt(v, do) - delta[None, :])).astype(do.dtype)
        dk = tuple(total + tiles.product(dscores, part) for total, part in zip(dk, q, strict=True))
        return dk, dv

    none = tuple(tiles.zeros(*part.shape) for part in k), tiles.zeros(*v.shape)
    dk, dv = jax.lax.fori_loop(
        *tiles_in_reach(start, block_kv, block_q, window, num_rows), add_block, none
    )
    dk = [part * (scale / tiles.LOG2_E) for part in dk]
    dv_ref, *outputs = refs[4:] if rotated else refs
    tiles.store_rows(dv_ref, start, dv, rows)
    _store_turned_back(dk, k_ref, outputs, rotation, start, rows, num_rows)


def backward(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T N H"],
    value: Float[Array, "B T N H"],
    lengths: Int[Array, " B"],
    rotation: Rotation | None,
    out: Float[Array, "B T N H"],
    lse: Float[Array, "B N T"],
    cotangent: Float[Array, "B T N H"],
    *,
    window: int,
    scale: float,
    query_tile: Tile,
    key_tile: Tile,
    interpret: bool,
) -> Gradients:
    """Return the gradients of sum(cotangent * output).

    Args:
        query: H is a power of two from 16 on, from 32 on with a rotation.
        key: likewise.
        value: likewise.
        lengths: valid rows.
        rotation: ROTE; or None.
        out: what the forward pass returned.
        lse: likewise.
        cotangent: in the dtype of the others.
        window: w.
        scale: factor of the scores, with log2(e) in it.
        query_tile: sizes of the kernel for dQ.
        key_tile: sizes of the kernel for dK and dV.
        interpret: run the kernels in JAX.
    """
    batch, rows, heads, head_dim = query.shape
    delta = jnp.einsum("btnh,btnh->bnt", cotangent, out, preferred_element_type=jnp.float32)
    rotated = rotation is not None

    def run(kernel, name: str, tile: Tile, block: int, num_outputs: int) -> Sequence[Array]:
        parts, views = tiles.num_tiles(rows, block), Views.of(rows, head_dim, tile)
        rotation_views = [views.table, views.table, views.numbers, views.numbers]
        of_frequencies = ((parts, batch, heads, head_dim // 2), jnp.float32)
        return launch(
            partial(
                kernel,
                rotated=rotated,
                rows=rows,
                tile=tile,
                window=window,
                scale=scale,
                maths=tiles.maths_for(query.dtype, interpret),
            ),
            [lengths, query, key, value, cotangent, lse, delta, *(rotation or ())],
            name=name,
            grid=(parts, heads, batch),
            in_specs=[
                of_example(),
                *[views.rows] * 4,
                *[views.row_numbers] * 2,
                *rotation_views * rotated,
            ],
            out_specs=[*[views.rows] * num_outputs, *[of_part(head_dim // 2)] * (2 * rotated)],
            out_shapes=[
                *[(query.shape, query.dtype)] * num_outputs,
                *[of_frequencies] * (2 * rotated),
            ],
            tile=tile,
            interpret=interpret,
        )

    dquery, *of_queries = run(
        _query_tile_kernel,
        "window_attention_backward_queries",
        query_tile,
        query_tile.block_q,
        1,
    )
    dvalue, dkey, *of_keys = run(
        _key_tile_kernel,
        "window_attention_backward_keys",
        key_tile,
        key_tile.block_kv,
        2,
    )
    dtheta, dphi = None, None
    if rotated:
        dtheta, dphi = (
            jnp.sum(left, axis=(0, 1, 2)) + jnp.sum(right, axis=(0, 1, 2))
            for left, right in zip(of_queries, of_keys, strict=True)
        )
    return Gradients(dquery, dkey, dvalue, dtheta, dphi)
