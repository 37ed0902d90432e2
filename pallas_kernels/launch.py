"""The launcher: the only file that knows `pallas_call` and the Triton compiler's parameters.

Moving the kernels to another backend of Pallas means writing this file and the primitives at the
end of `tiles.py` anew; the kernels themselves are written in the functions of `tiles.py`.

Every kernel of this package has the grid (part, head, example): `part` counts tiles or splits of a
sequence and is the fastest to change, so that programs that run together share keys in the cache.
"""

import warnings
from collections.abc import Callable, Sequence

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, DTypeLike

from pallas_kernels.costs import Work
from pallas_kernels.tile_choices import Tile
from pallas_kernels.tiles import num_tiles

# Since JAX 0.11 every lowering warns that this backend will be removed in some later version. The
# range of versions that this package is tested with is pinned, so there is nothing a caller can do.
warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")

# Programs that a launch should at least have before it stops splitting sequences: two for each
# multiprocessor of an H200 (132); a B200 has 148.
_ENOUGH_PROGRAMS = 264


def launch(
    kernel: Callable[..., None],
    arrays: Sequence[Array],
    *,
    name: str,
    grid: tuple[int, int, int],
    in_specs: Sequence[pl.BlockSpec],
    out_specs: Sequence[pl.BlockSpec],
    out_shapes: Sequence[tuple[tuple[int, ...], DTypeLike]],
    work: Work,
    tile: Tile,
    interpret: bool,
) -> Sequence[Array]:
    """Run `kernel` on every point of `grid`.

    Args:
        kernel: function of the references to inputs and outputs.
        arrays: the inputs.
        name: what profiles and the lowered code call the kernel; one of `costs.PRODUCTS`.
        grid: parts, heads, examples.
        in_specs: how each input is seen by the program at a point of the grid.
        out_specs: likewise for the outputs.
        out_shapes: shape and dtype of each output.
        work: what the operation has to compute; `kunlun_jax.flops` and other readers of a traced
            program see it as the call's cost estimate. The compiler of JAX 0.10 ignores it.
        tile: warps and pipeline stages.
        interpret: run the kernel in JAX instead, for machines without a GPU.
    """
    _, heads, examples = grid
    outputs = [jax.ShapeDtypeStruct(*shape_dtype) for shape_dtype in out_shapes]
    moved = [*arrays, *outputs]
    call = pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=list(in_specs),
        out_specs=list(out_specs),
        out_shape=outputs,
        compiler_params=plgpu.CompilerParams(num_warps=tile.num_warps, num_stages=tile.num_stages),
        cost_estimate=work.estimate(name, heads=heads, examples=examples, arrays=moved),
        interpret=interpret,
        name=name,
    )
    return call(*arrays)


def of_example(*shape: int, shared: bool = False) -> pl.BlockSpec:
    """Return how a program sees an array [B, *shape]: the part of its example.

    `shared`: the array is [1, *shape] and the same for all examples.
    """
    zeros = (0,) * len(shape)
    return pl.BlockSpec(
        (None, *shape), lambda part, head, example: (example * (not shared), *zeros)
    )


def of_head(*shape: int) -> pl.BlockSpec:
    """Return how a program sees an array [B, N, *shape]: the part of its example and head."""
    zeros = (0,) * len(shape)
    return pl.BlockSpec((None, None, *shape), lambda part, head, example: (example, head, *zeros))


def rows_of_head(rows: int, head_dim: int, block: int, *, shared: bool = False) -> pl.BlockSpec:
    """Return how a program sees an array [B, rows, N, H]: the rows of its example and head.

    It sees a whole number of tiles of `block` rows. What lies beyond `rows` is not its own, and is
    neither to be read nor written.
    """
    return pl.BlockSpec(
        (None, num_tiles(rows, block) * block, None, head_dim),
        lambda part, head, example: (example * (not shared), 0, head, 0),
    )


def rows_of_split(rows: int, head_dim: int, block: int) -> pl.BlockSpec:
    """Return how a program sees an array [splits, B, rows, N, H] of partial sums.

    The parts of the grid are the splits times the tiles of `block` rows, which change fastest.
    """
    count = num_tiles(rows, block)
    return pl.BlockSpec(
        (None, None, count * block, None, head_dim),
        lambda part, head, example: (part // count, example, 0, head, 0),
    )


def of_split(rows: int, block: int) -> pl.BlockSpec:
    """Return how a program sees an array [splits, B, N, rows]; see `rows_of_split`."""
    count = num_tiles(rows, block)
    return pl.BlockSpec(
        (None, None, None, count * block),
        lambda part, head, example: (part // count, example, head, 0),
    )


def of_part(*shape: int) -> pl.BlockSpec:
    """Return how a program sees an output [parts, B, N, *shape] that it alone writes."""
    zeros = (0,) * len(shape)
    return pl.BlockSpec(
        (None, None, None, *shape), lambda part, head, example: (part, example, head, *zeros)
    )


def splits_for(programs: int, tiles: int) -> int:
    """Return into how many parts to split `tiles` tiles, where there are `programs` without."""
    return max(1, min(tiles, -(-_ENOUGH_PROGRAMS // programs)))
