"""Window attention backward.

With P = softmax(S), recomputed from the saved logarithm of its denominator, and with
dP = dO V^T, delta_t = dO_t . O_t, the gradient of the scores is dS = P * (dP - delta), and

    dQ = R^T (dS (R K)) / sqrt(H),   dK = R^T (dS^T (R Q)) / sqrt(H),   dV = P^T dO.

Two kernels with the same arithmetic of windows, so that each sum belongs to one program: one owns a
tile of queries and visits the keys in its reach, the other owns a tile of keys and visits the
queries in its reach. The first has O and dO of its queries at hand, and leaves delta for the other.

Queries and keys come rotated, R Q and R K; their gradients are turned back at the end. ROTE turns
the pair (x[i], x[i + H/2]), so that with a rotation the two halves of a row are loaded apart and
never put together: a score is the sum of the products of the halves.

The angle of pair i at row t is position_t * theta_i + time_t * phi_i. Turning a pair (a, b) further
changes it by (-b, a), so a row's share in the gradient of its angle is a dB - b dA, with the
gradients dA, dB of the turned pair; theta and phi collect it times the row's position and time.
Every program leaves one partial sum, which XLA adds up.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from pallas_kernels import tiles
from pallas_kernels.launch import launch, of_example, of_part
from pallas_kernels.tile_choices import Tile
from pallas_kernels.window_attention.forward import Views, in_window, tiles_in_reach


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


class Saved(NamedTuple):
    """What the backward pass starts from.

    Attributes:
        query: [B, T, N, H], rotated; H is a power of two from 16 on, from 32 on with a rotation.
        key: likewise.
        value: [B, T, N, H].
        lengths: [B], valid rows.
        rotation: ROTE; or None.
        out: what the forward pass returned.
        lse: likewise.
        cotangent: [B, T, N, H], in the dtype of the others.
    """

    query: Float[Array, "B T N H"]
    key: Float[Array, "B T N H"]
    value: Float[Array, "B T N H"]
    lengths: Int[Array, " B"]
    rotation: Rotation | None
    out: Float[Array, "B T N H"]
    lse: Float[Array, "B N T"]
    cotangent: Float[Array, "B T N H"]


class Gradients(NamedTuple):
    """Gradients of window attention's differentiable inputs.

    Attributes:
        query: [B, T, N, H], of the query before its rotation.
        key: likewise.
        value: [B, T, N, H].
        theta: [H/2] f32, of the frequencies of the positions; None without a rotation.
        phi: [H/2] f32, of the frequencies of the times; None without a rotation.
    """

    query: Array
    key: Array
    value: Array
    theta: Array | None
    phi: Array | None


class OfQueries(NamedTuple):
    """What the kernel that owns queries leaves.

    Attributes:
        query: [B, T, N, H].
        delta: [B, N, T] f32, dO . O.
        frequencies: partial sums for theta and phi, [parts, B, N, H/2] f32; none unrotated.
    """

    query: Array
    delta: Array
    frequencies: Sequence[Array]


class OfKeys(NamedTuple):
    """What the kernel that owns keys leaves.

    Attributes:
        value: [B, T, N, H].
        key: likewise.
        frequencies: partial sums for theta and phi, [parts, B, N, H/2] f32; none unrotated.
    """

    value: Array
    key: Array
    frequencies: Sequence[Array]


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
    # Plus 0, which the compiler does not know: it would merge these loads with those from before
    # the loop, and hold what they gave in registers all through it.
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


def _query_tile_kernel(
    length,
    q_ref,
    k_ref,
    v_ref,
    do_ref,
    lse_ref,
    out_ref,
    *refs,
    rotated: bool,
    rows: int,
    tile: Tile,
    window: int,
    scale: float,
    maths: tiles.Maths,
):
    rotation, (dq_ref, delta_ref, *frequency_refs) = refs[: 4 * rotated], refs[4 * rotated :]
    num_rows = length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_q
    row_indices = tiles.row_indices(start, block_q)
    q = _load_parts(q_ref, rotated, start, block_q, num_rows)
    do = tiles.load_rows(do_ref, start, block_q, num_rows)
    lse = tiles.load_numbers(lse_ref, start, block_q, num_rows)
    out = tiles.load_rows(out_ref, start, block_q, num_rows)
    delta = jnp.sum(do.astype(jnp.float32) * out.astype(jnp.float32), axis=1)
    tiles.store_numbers(delta_ref, start, delta, rows)

    def add_block(j, dq):
        k = _load_parts(k_ref, rotated, j * block_kv, block_kv, num_rows)
        v = tiles.load_rows(v_ref, j * block_kv, block_kv, num_rows)
        columns = tiles.row_indices(j * block_kv, block_kv)
        valid = in_window(row_indices, columns, window, num_rows)
        products = jnp.where(valid, _products_of_parts(q, k), tiles.masked_product(scale))
        weights = maths.exp2(maths.fma(products, scale, -lse[:, None]))
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
    outputs = (dq_ref, *frequency_refs)
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
    rotation, (dv_ref, *outputs) = refs[: 4 * rotated], refs[4 * rotated :]
    num_rows = length[...]
    block_q, block_kv = tile.block_q, tile.block_kv
    start = pl.program_id(0) * block_kv
    key_indices = tiles.row_indices(start, block_kv)
    k = _load_parts(k_ref, rotated, start, block_kv, num_rows)
    v = tiles.load_rows(v_ref, start, block_kv, num_rows)

    def add_block(i, sums):
        dk, dv = sums
        q = _load_parts(q_ref, rotated, i * block_q, block_q, num_rows)
        do = tiles.load_rows(do_ref, i * block_q, block_q, num_rows)
        lse = tiles.load_numbers(lse_ref, i * block_q, block_q, num_rows)
        delta = tiles.load_numbers(delta_ref, i * block_q, block_q, num_rows)
        valid = in_window(key_indices, tiles.row_indices(i * block_q, block_q), window, num_rows)
        products = jnp.where(valid, _products_of_parts(k, q), tiles.masked_product(scale))
        weights = maths.exp2(maths.fma(products, scale, -lse[None, :]))
        dv += tiles.product(weights.astype(do.dtype), do)
        dscores = (weights * (tiles.product_nt(v, do) - delta[None, :])).astype(do.dtype)
        dk = tuple(total + tiles.product(dscores, part) for total, part in zip(dk, q, strict=True))
        return dk, dv

    none = tuple(tiles.zeros(*part.shape) for part in k), tiles.zeros(*v.shape)
    dk, dv = jax.lax.fori_loop(
        *tiles_in_reach(start, block_kv, block_q, window, num_rows), add_block, none
    )
    dk = [part * (scale / tiles.LOG2_E) for part in dk]
    tiles.store_rows(dv_ref, start, dv, rows)
    _store_turned_back(dk, k_ref, outputs, rotation, start, rows, num_rows)


class _Launch(NamedTuple):
    """One of the two kernels: its function and name, and the rows that a program owns."""

    kernel: Callable[..., None]
    name: str
    block: int


def _run(
    launched: _Launch,
    saved: Saved,
    last_input: Array,
    *,
    outputs: Sequence[str],
    window: int,
    scale: float,
    tile: Tile,
    interpret: bool,
) -> Sequence[Array]:
    """Launch one of the two kernels.

    Args:
        launched: which.
        saved: what the backward pass starts from.
        last_input: [B, T, N, H] or [B, N, T].
        outputs: "rows" for an output [B, T, N, H], "numbers" for one [B, N, T] f32. The partial
            sums of the frequencies follow them.
        window: w.
        scale: factor of the scores, with log2(e) in it.
        tile: sizes.
        interpret: run the kernel in JAX.
    """
    batch, rows, heads, head_dim = saved.query.shape
    parts, views = tiles.num_tiles(rows, launched.block), Views.of(rows, head_dim, tile)
    rotated = saved.rotation is not None
    specs = {"rows": views.rows, "numbers": views.row_numbers}
    shapes = {
        "rows": (saved.query.shape, saved.query.dtype),
        "numbers": ((batch, heads, rows), jnp.float32),
    }
    of_frequencies = ((parts, batch, heads, head_dim // 2), jnp.float32)
    return launch(
        partial(
            launched.kernel,
            rotated=rotated,
            rows=rows,
            tile=tile,
            window=window,
            scale=scale,
            maths=tiles.maths_for(saved.query.dtype, interpret),
        ),
        [
            *(saved.lengths, saved.query, saved.key, saved.value, saved.cotangent, saved.lse),
            *(last_input, *(saved.rotation or ())),
        ],
        name=launched.name,
        grid=(parts, heads, batch),
        in_specs=[
            of_example(),
            *[views.rows] * 4,
            views.row_numbers,
            specs["rows" if last_input.ndim == 4 else "numbers"],
            *[views.table, views.table, views.numbers, views.numbers] * rotated,
        ],
        out_specs=[*(specs[kind] for kind in outputs), *[of_part(head_dim // 2)] * (2 * rotated)],
        out_shapes=[*(shapes[kind] for kind in outputs), *[of_frequencies] * (2 * rotated)],
        tile=tile,
        interpret=interpret,
    )


def of_queries(
    saved: Saved, *, window: int, scale: float, tile: Tile, interpret: bool
) -> OfQueries:
    """Run the kernel that owns tiles of queries; see `backward`."""
    query, delta, *frequencies = _run(
        _Launch(_query_tile_kernel, "window_attention_backward_queries", tile.block_q),
        saved,
        saved.out,
        outputs=("rows", "numbers"),
        window=window,
        scale=scale,
        tile=tile,
        interpret=interpret,
    )
    return OfQueries(query, delta, frequencies)


def of_keys(
    saved: Saved,
    delta: Float[Array, "B N T"],
    *,
    window: int,
    scale: float,
    tile: Tile,
    interpret: bool,
) -> OfKeys:
    """Run the kernel that owns tiles of keys; see `backward`."""
    value, key, *frequencies = _run(
        _Launch(_key_tile_kernel, "window_attention_backward_keys", tile.block_kv),
        saved,
        delta,
        outputs=("rows", "rows"),
        window=window,
        scale=scale,
        tile=tile,
        interpret=interpret,
    )
    return OfKeys(value, key, frequencies)


def backward(
    saved: Saved, *, window: int, scale: float, query_tile: Tile, key_tile: Tile, interpret: bool
) -> Gradients:
    """Return the gradients of sum(cotangent * output).

    Args:
        saved: inputs, outputs and cotangent of the forward pass.
        window: w.
        scale: factor of the scores, with log2(e) in it.
        query_tile: sizes of the kernel for dQ.
        key_tile: sizes of the kernel for dK and dV.
        interpret: run the kernels in JAX.
    """
    options = {"window": window, "scale": scale, "interpret": interpret}
    queries = of_queries(saved, tile=query_tile, **options)
    keys = of_keys(saved, queries.delta, tile=key_tile, **options)
    theta, phi = None, None
    if saved.rotation is not None:
        theta, phi = (
            jnp.sum(left, axis=(0, 1, 2)) + jnp.sum(right, axis=(0, 1, 2))
            for left, right in zip(queries.frequencies, keys.frequencies, strict=True)
        )
    return Gradients(queries.query, keys.key, keys.value, theta, phi)
