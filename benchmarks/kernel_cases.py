"""Every kernel at every tile choice, as functions to compile.

The public functions pick kernels and tiles from the shapes. `launches` lists them for a shape as
the public functions would; `program` takes a kernel and a tile by hand.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.costs import PRODUCTS
from pallas_kernels.gdpa import backward as gdpa_backward
from pallas_kernels.gdpa import forward as gdpa_forward
from pallas_kernels.seed_attention import backward as seed_backward
from pallas_kernels.seed_attention import forward as seed_forward
from pallas_kernels.tile_choices import Tile, choices_for, choose
from pallas_kernels.tiles import num_tiles
from pallas_kernels.window_attention import backward as window_backward
from pallas_kernels.window_attention import forward as window_forward

# Those whose code depends on whether there is a rotation.
ROTATING = ("window_attention_backward_queries", "window_attention_backward_keys")
# name -> dtype, precision of f32 products: one TF32 product, or IEEE arithmetic without tensor
# cores.
FORMATS = {
    "bf16": (jnp.bfloat16, "default"),
    "f32": (jnp.float32, "default"),
    "f32_highest": (jnp.float32, "highest"),
}
HEAD_DIMS = (16, 32, 64, 128, 256)
# Enough that no kernel splits a sequence.
_BATCH, _HEADS = 256, 4
_SMALLEST = 16
# Every pair of these is compiled: lengths beyond a block, down to the shortest that differ.
_ROWS, _KEYS = (1024, 128, 64), (1024, 256, 128, 64)


class Case(NamedTuple):
    """A kernel, with all that its code depends on.

    Attributes:
        kernel: one of `PRODUCTS`.
        format: one of `FORMATS`.
        head_dim: H.
        rows: queries, or seeds.
        keys: keys, or those in the reach of a window.
        rotated: whether window attention turns its rows' gradients back.
        tile: sizes.
    """

    kernel: str
    format: str
    head_dim: int
    rows: int
    keys: int
    rotated: bool
    tile: Tile

    @property
    def code(self) -> tuple:
        """What distinguishes the code: cases that agree in it need to be compiled once."""
        itemsize = jnp.dtype(FORMATS[self.format][0]).itemsize
        keys = 0
        if self.kernel == "gdpa_forward":
            # Keys that stay on the multiprocessor are a loop that is written out.
            resident = gdpa_forward.keeps_keys(self.keys, self.head_dim, itemsize, self.tile)
            keys = num_tiles(self.keys, self.tile.block_kv) if resident else -1
        return self._replace(rows=0, keys=keys)

    @property
    def scores_of_turn(self) -> int:
        """Scores that a block computes in one turn of its main loop."""
        itemsize = jnp.dtype(FORMATS[self.format][0]).itemsize
        blocks = 1
        if self.kernel == "gdpa_forward" and gdpa_forward.keeps_keys(
            self.keys, self.head_dim, itemsize, self.tile
        ):
            blocks = num_tiles(self.keys, self.tile.block_kv)
        return self.tile.block_q * self.tile.block_kv * blocks

    @property
    def multiply_adds_of_turn(self) -> int:
        """Multiply-adds of the matrix products that such a turn needs."""
        return PRODUCTS[self.kernel] * self.scores_of_turn * self.head_dim


def launches(section: str, format: str, head_dim: int) -> Iterator[Case]:
    """List the kernels that the public functions launch with the tiles of a section of the table.

    Args:
        section: a compute capability, or "default".
        format: one of `FORMATS`.
        head_dim: H.
    """
    like = jax.ShapeDtypeStruct((1, head_dim), FORMATS[format][0])
    seen = set()
    with choices_for(section):
        for rows, keys in itertools.product(_ROWS, _KEYS):
            for kernel, rotated in _kernels_of(like, rows, keys):
                sizes = {"rows": rows, "keys": keys, "rotated": rotated}
                tile = choose(table_name(kernel), like, **sizes)
                case = Case(kernel, format, head_dim, rows, keys, rotated, tile)
                if case.code not in seen:
                    seen.add(case.code)
                    yield case


def _kernels_of(like, rows: int, keys: int) -> Iterator[tuple[str, bool]]:
    yield "gdpa_forward", False
    if gdpa_backward.takes_one_pass(keys, choose("gdpa_backward", like, rows=rows, keys=keys)):
        yield "gdpa_backward", False
    else:
        yield "gdpa_backward_keys", False
        yield "gdpa_backward_queries", False
    if keys <= rows:
        yield "window_attention_forward", False
    for rotated in (False, True)[: 1 + (like.shape[-1] >= 32)]:
        if keys <= rows:
            yield "window_attention_backward_queries", rotated
            yield "window_attention_backward_keys", rotated
    yield "seed_attention_forward", False
    if rows <= choose("seed_attention_backward", like, rows=rows, keys=keys).block_q:
        yield "seed_attention_backward", False
    else:
        yield "seed_attention_backward_seeds", False
        yield "seed_attention_backward_keys", False


def table_name(kernel: str) -> str:
    """Return the kernel's name in the table; one choice decides between one pass and two."""
    shared = {
        "gdpa_backward_keys": "gdpa_backward",
        "seed_attention_backward_seeds": "seed_attention_backward",
    }
    return shared.get(kernel, kernel)


def can_launch(case: Case) -> bool:
    """Return whether the kernel runs at the case's sizes, or another one does its work."""
    one_pass = {
        "gdpa_backward": gdpa_backward.takes_one_pass(case.keys, case.tile),
        "gdpa_backward_keys": not gdpa_backward.takes_one_pass(case.keys, case.tile),
        "seed_attention_backward": case.rows <= case.tile.block_q,
        "seed_attention_backward_seeds": case.rows > case.tile.block_q,
        "seed_attention_backward_keys": case.rows > _SMALLEST,
    }
    if case.rotated and (case.head_dim < 32 or case.kernel not in ROTATING):
        return False
    return one_pass.get(case.kernel, True)


def program(case: Case) -> tuple[Callable, list]:
    """Return a function that launches the case's kernel, and the shapes of its arguments.

    A backward pass may be two kernels. The function then returns the results of the one, and the
    compiler drops the other.
    """
    operation, direction = case.kernel.split("_forward")[0].split("_backward")[0], "forward"
    if "_backward" in case.kernel:
        direction = "backward"
    function, arguments = _PROGRAMS[operation, direction](case)

    def results(*arrays):
        with jax.default_matmul_precision(FORMATS[case.format][1]):
            out = function(*arrays)
        if case.kernel not in _GRADIENTS:
            return out
        return [getattr(out, field) for field in _GRADIENTS[case.kernel]]

    return results, arguments


# The gradients that each kernel of a backward pass computes, where one function runs both.
_GRADIENTS = {
    "gdpa_backward": ("query", "key", "value", "scale_in"),
    "gdpa_backward_keys": ("key", "value", "scale_in"),
    "gdpa_backward_queries": ("query",),
    "seed_attention_backward": ("seeds", "key", "value"),
    "seed_attention_backward_seeds": ("seeds",),
    "seed_attention_backward_keys": ("key", "value"),
}


def _array(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((_BATCH, *shape), dtype)


def _rows(case: Case, size: int) -> jax.ShapeDtypeStruct:
    return _array(size, _HEADS, case.head_dim, dtype=FORMATS[case.format][0])


_lengths = _array(dtype=jnp.int32)


def _gdpa_inputs(case: Case) -> Any:
    key = _rows(case, case.keys)
    arrays = [_rows(case, case.rows), key, key, _lengths, _lengths, _array(_HEADS)]
    return gdpa_forward.Inputs._make(arrays)


_GDPA = {"activations": ("gelu_tanh",) * _HEADS, "scale_out": 1.0, "interpret": False}


def _gdpa_forward(case: Case) -> tuple[Callable, list]:
    return partial(gdpa_forward.forward, tile=case.tile, **_GDPA), [_gdpa_inputs(case)]


def _gdpa_backward(case: Case) -> tuple[Callable, list]:
    sweep = case.kernel == "gdpa_backward_queries"
    key_tile = case.tile._replace(query_gradient="apart") if sweep else case.tile
    tiles = {"key_tile": key_tile, "query_tile": case.tile}
    arguments = [_gdpa_inputs(case), _rows(case, case.rows)]
    return partial(gdpa_backward.backward, **tiles, **_GDPA), arguments


def _window_options(case: Case) -> dict[str, object]:
    return {"window": case.keys // 2, "scale": 1.0, "interpret": False}


def _window_forward(case: Case) -> tuple[Callable, list]:
    rows = _rows(case, case.rows)
    function = partial(window_forward.forward, tile=case.tile, **_window_options(case))
    return function, [window_forward.Inputs._make([rows, rows, rows, _lengths])]


def _window_backward(case: Case) -> tuple[Callable, list]:
    rows, rotation = _rows(case, case.rows), None
    if case.rotated:
        angles, numbers = _array(case.rows, case.head_dim // 2), _array(case.rows)
        rotation = window_backward.Rotation(angles, angles, numbers, numbers)
    numbers_of_heads = _array(_HEADS, case.rows)
    inputs = window_forward.Inputs._make([rows, rows, rows, _lengths])
    saved = window_backward.Saved._make([inputs, rotation, rows, numbers_of_heads, rows])
    options = {"tile": case.tile, **_window_options(case)}
    if case.kernel == "window_attention_backward_queries":
        return partial(window_backward.of_queries, **options), [saved]
    return partial(window_backward.of_keys, **options), [saved, numbers_of_heads]


_SEED = {"scale": 1.0, "interpret": False}


def _seed_forward(case: Case) -> tuple[Callable, list]:
    seeds, key = _rows(case, case.rows), _rows(case, case.keys)
    function = partial(seed_forward.forward, tile=case.tile, **_SEED)
    return function, [seed_forward.Inputs._make([seeds, key, key, _lengths])]


def _seed_backward(case: Case) -> tuple[Callable, list]:
    seeds, key = _rows(case, case.rows), _rows(case, case.keys)
    sweep = case.kernel == "seed_attention_backward_keys"
    seed_tile = case.tile._replace(block_q=_SMALLEST) if sweep else case.tile
    tiles = {"seed_tile": seed_tile, "key_tile": case.tile}
    lse = _array(_HEADS, case.rows)
    function = partial(seed_backward.backward, **tiles, **_SEED)
    inputs = seed_forward.Inputs._make([seeds, key, key, _lengths])
    return function, [inputs, seeds, lse, seeds]


_PROGRAMS = {
    ("gdpa", "forward"): _gdpa_forward,
    ("gdpa", "backward"): _gdpa_backward,
    ("window_attention", "forward"): _window_forward,
    ("window_attention", "backward"): _window_backward,
    ("seed_attention", "forward"): _seed_forward,
    ("seed_attention", "backward"): _seed_backward,
}
