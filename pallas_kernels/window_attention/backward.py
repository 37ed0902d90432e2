"""Window attention backward.

With P = softmax(S), recomputed from the saved logarithm of its denominator, and with
dP = dO V^T, delta_t = dO_t . O_t, the gradient of the scores is dS = P * (dP - delta), and

    dQ = R^T (dS (R K)) / sqrt(H),   dK = R^T (dS^T (R Q)) / sqrt(H),   dV = P^T dO.

Two kernels with the same arithmetic of windows, so that each sum belongs to one program: one owns a
tile of queries and visits the keys in its reach, the other owns a tile of keys and visits the
queries in its reach. The first has O and dO of its queries at hand, and leaves delta for the other.

The kernels are in `backward_kernels.py`; this file launches them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from pallas_kernels import tiles
from pallas_kernels.launch import launch, of_example, of_part
from pallas_kernels.tile_choices import Tile
from pallas_kernels.window_attention.backward_kernels import key_tile_kernel, query_tile_kernel
from pallas_kernels.window_attention.forward import Inputs, Views


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
        inputs: what the forward pass was given.
        rotation: ROTE; or None.
        out: [B, T, N, H], what the forward pass returned.
        lse: likewise.
        cotangent: [B, T, N, H], in the dtype of the others.
    """

    inputs: Inputs
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
    query, key, value, lengths = saved.inputs
    batch, rows, heads, head_dim = query.shape
    parts, views = tiles.num_tiles(rows, launched.block), Views.of(rows, head_dim, tile)
    rotated = saved.rotation is not None
    specs = {"rows": views.rows, "numbers": views.row_numbers}
    shapes = {
        "rows": (query.shape, query.dtype),
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
            maths=tiles.maths_for(query.dtype, interpret),
        ),
        [
            *(lengths, query, key, value, saved.cotangent, saved.lse),
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
        work=saved.inputs.work(window),
        tile=tile,
        interpret=interpret,
    )


def of_queries(saved: Saved, *, tile: Tile, **options: Any) -> OfQueries:
    """Run the kernel that owns tiles of queries; the options are those of `_run`."""
    launched = _Launch(query_tile_kernel, "window_attention_backward_queries", tile.block_q)
    query, delta, *frequencies = _run(
        launched, saved, saved.out, outputs=("rows", "numbers"), tile=tile, **options
    )
    return OfQueries(query, delta, frequencies)


def of_keys(saved: Saved, delta: Float[Array, "B N T"], *, tile: Tile, **options: Any) -> OfKeys:
    """Run the kernel that owns tiles of keys; the options are those of `_run`."""
    launched = _Launch(key_tile_kernel, "window_attention_backward_keys", tile.block_kv)
    value, key, *frequencies = _run(
        launched, saved, delta, outputs=("rows", "rows"), tile=tile, **options
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
