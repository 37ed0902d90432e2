"""One kernel at one size, run with tiles that are not in the table."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.assembler import compile_and_read
from pallas_kernels.gdpa import gdpa
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.tile_choices import Tile, capability, choices_for, table
from pallas_kernels.timing import (
    Budget,
    compile_all,
    first_line,
    forward_and_pull,
    num_sets,
    seconds_per_call,
)
from pallas_kernels.window_attention import window_attention

# Largest norm of the error over the norm of the result, against f32 arithmetic; by the inputs'
# width. 16 bit: results and weights are rounded to 8 bits. 32 bit: products are of TF32 numbers.
TOLERANCE = {2: 1e-2, 4: 2e-3}
_DTYPES = {2: jnp.bfloat16, 4: jnp.float32}
_LONG, _WINDOW = 1024, 100
# Keys, or seeds, of a bucket without a bound.
_MANY_KEYS, _MANY_SEEDS = 512, 128
# What the arrays of a trial hold, together: far more than a cache.
_ARRAY_BYTES = 2**28
# The gradients of (query, key, value) that a kernel computes; the compiler drops the other kernel,
# but for the window's queries, whose kernel leaves delta for that of the keys.
_GRADIENTS = {
    "gdpa_backward": slice(0, 3),
    "gdpa_backward_queries": slice(0, 1),
    "window_attention_backward_queries": slice(0, 1),
    "window_attention_backward_keys": slice(1, 3),
    "seed_attention_backward": slice(0, 3),
    "seed_attention_backward_keys": slice(1, 3),
}
# A backward pass is one sweep where a tile holds all: to time the other, make that tile small.
_TWO_SWEEPS = {
    "gdpa_backward_queries": "gdpa_backward",
    "seed_attention_backward_keys": "seed_attention_backward",
}
# What a kernel is called where a block does not hold all; the table has one entry for both.
_ALSO_CALLED = {
    "gdpa_backward": "gdpa_backward_keys",
    "seed_attention_backward": "seed_attention_backward_seeds",
}
_numbers = itertools.count()


class Bucket(NamedTuple):
    """The inputs that share an entry of the table.

    Attributes:
        kernel: name in the table.
        itemsize: bytes of a number of the inputs.
        head_dim: largest H.
        rows: largest number of queries or seeds; None for any.
        keys: largest number of keys in sight of a row; None for any.
        rotated: for window attention with or without a rotation; None for either.
    """

    kernel: str
    itemsize: int
    head_dim: int
    rows: int | None = None
    keys: int | None = None
    rotated: bool | None = None

    @property
    def num_rows(self) -> int:
        """Queries or seeds with which the bucket is tuned."""
        if self.kernel.startswith("seed"):
            return self.rows or (2 if self.kernel in _TWO_SWEEPS else 1) * _MANY_SEEDS
        return _LONG

    @property
    def num_keys(self) -> int:
        """Keys with which the bucket is tuned; of a window, those in sight of a row."""
        if self.kernel.startswith("gdpa"):
            return self.keys or _MANY_KEYS
        return 2 * _WINDOW + 1 if self.kernel.startswith("window") else _LONG

    def entry(self, tile: Tile) -> dict[str, Any]:
        """Return the entry of the table that gives the bucket a tile."""
        bounds = {"rows": self.rows, "keys": self.keys}
        sizes = {"itemsize": self.itemsize, "head_dim": self.head_dim}
        entry: dict[str, Any] = {**sizes, **{k: size for k, size in bounds.items() if size}}
        if self.rotated is not None:
            entry["rotated"] = self.rotated
        if self.kernel == "gdpa_backward" and tile.query_gradient != "last":
            entry["query_gradient"] = tile.query_gradient
        return entry | {"tile": list(tile[: 5 if self.kernel == "gdpa_forward" else 4])}

    def __str__(self) -> str:
        bounds = "".join(f" {k} <= {v}" for k, v in (("rows", self.rows), ("keys", self.keys)) if v)
        turned = {None: "", True: " rotated", False: " unrotated"}[self.rotated]
        return f"{self.kernel}{turned} {8 * self.itemsize} bit H <= {self.head_dim}{bounds}"


class Trial(NamedTuple):
    """What came of a tile.

    Attributes:
        seconds: of a call; None where it is dropped.
        note: why it is dropped, or what the assembler says against it; "" for nothing.
    """

    seconds: float | None
    note: str

    def __str__(self) -> str:
        if self.seconds is None:
            return f"dropped: {self.note}"
        return f"{1e6 * self.seconds:9.1f} us" + (f" ({self.note})" if self.note else "")


class Problem(NamedTuple):
    """A kernel's inputs and results.

    Attributes:
        bucket: what it stands for.
        function: runs the kernel, with the tile that the table has when it is traced.
        sets: arguments of `function`; several sets where one would fit the cache.
        want: results for the first set, in f32 arithmetic.
    """

    bucket: Bucket
    function: Callable[..., Any]
    sets: Sequence[tuple[Any, ...]]
    want: Any


def problem_of(bucket: Bucket, implementation: str, *, batch: int | None = None) -> Problem:
    """Return random inputs for a bucket, all of full length.

    Args:
        bucket: kernel and sizes.
        implementation: "triton" or "triton_interpret".
        batch: examples; None for enough to fill a GPU.
    """
    operation, shapes = _operation(bucket)
    if batch is None:
        bytes_of_example = sum(size * heads * dim for size, heads, dim in shapes) * bucket.itemsize
        batch = max(1, _ARRAY_BYTES // bytes_of_example)
    # Seeds are shared by the batch.
    leading = [() if bucket.kernel.startswith("seed") and i == 0 else (batch,) for i in range(3)]
    of_arrays = [(*first, *shape) for first, shape in zip(leading, shapes, strict=True)]
    of_cotangent = (batch, *shapes[0])

    def draw(seed: int) -> tuple[tuple[jax.Array, ...], jax.Array]:
        keys = jax.random.split(jax.random.key(seed), 4)
        arrays = [
            jax.random.normal(key, shape, _DTYPES[bucket.itemsize])
            for key, shape in zip(keys, (*of_arrays, of_cotangent), strict=True)
        ]
        return tuple(arrays[:3]), arrays[3]

    size = sum(x.nbytes for x in draw(0)[0])
    drawn = [draw(seed) for seed in range(num_sets(size))]
    arrays, cotangent = jax.tree.map(lambda x: x.astype(jnp.float32), drawn[0])
    reference = partial(operation, implementation="xla")
    function = partial(operation, implementation=implementation)
    with jax.default_matmul_precision("highest"):
        if bucket.kernel not in _GRADIENTS:
            return Problem(bucket, function, [a for a, _ in drawn], jax.jit(reference)(*arrays))
        part = _GRADIENTS[bucket.kernel]
        want = jax.jit(lambda arrays, ct: jax.vjp(reference, *arrays)[1](ct)[part])(
            arrays, cotangent
        )
    forward, pull = forward_and_pull(lambda arrays: function(*arrays))
    forward = jax.jit(forward)
    sets = [(forward(arrays)[1], cotangent) for arrays, cotangent in drawn]
    return Problem(bucket, lambda saved, cotangent: pull(saved, cotangent)[part], sets, want)


def _operation(bucket: Bucket) -> tuple[Callable[..., Any], list[tuple[int, int, int]]]:
    """Return the public function, and the shapes of an example's query, key and value."""
    heads, dim = 4, bucket.head_dim
    rows, keys = (bucket.num_rows, heads, dim), (bucket.num_keys, heads, dim)
    if bucket.kernel.startswith("gdpa"):
        return partial(gdpa, scale_in=dim**-0.5), [rows, keys, keys]
    if bucket.kernel.startswith("seed"):
        return seed_attention, [rows, keys, keys]

    if bucket.rotated is False:
        return partial(window_attention, window_size=_WINDOW), [rows] * 3

    def window(query: jax.Array, key: jax.Array, value: jax.Array, **options: Any) -> jax.Array:
        positions = jnp.broadcast_to(jnp.arange(query.shape[1]), query.shape[:2])
        frequencies = 10000.0 ** (-2.0 * jnp.arange(dim // 2) / dim)
        options |= {"positions": positions, "position_frequencies": frequencies}
        return window_attention(query, key, value, window_size=_WINDOW, **options)

    return window, [rows] * 3


@contextlib.contextmanager
def choosing(
    tile: Tile, bucket: Bucket, section: Mapping[str, list[dict[str, Any]]]
) -> Iterator[None]:
    """Make the table give a tile to a bucket's kernel, and what `section` has to the others.

    The trial is a section of the table by itself, of this process only and while it lasts.
    """
    forced = {bucket.kernel: [bucket.entry(tile)]}
    if bucket.kernel in _TWO_SWEEPS:
        forced[_TWO_SWEEPS[bucket.kernel]] = [bucket.entry(tile._replace(block_q=16, block_kv=16))]
    # What else depends on the capability is as without the trial.
    name = f"{capability()} trial {next(_numbers)}"
    table()[name] = {**section, **forced}
    try:
        with choices_for(name):
            yield
    finally:
        del table()[name]


def try_tiles(
    problem: Problem,
    tiles: Sequence[Tile],
    section: Mapping[str, list[dict[str, Any]]],
    *,
    workers: int,
    budget: Budget,
) -> dict[Tile, Trial]:
    """Return how long each tile takes, or why it is dropped.

    Args:
        problem: kernel and inputs.
        tiles: candidates.
        section: choices for the other kernels.
        workers: threads that compile.
        budget: what is not done when it is spent is dropped.
    """

    def compiled(tile: Tile) -> Any:
        # A function of its own, so that jax does not take it for one that it has traced.
        with choosing(tile, problem.bucket, section):
            function = partial(problem.function)
            lowered = jax.jit(function).lower(*problem.sets[0])
        return compile_and_read(lowered, names)

    kernel = problem.bucket.kernel
    names = [kernel, *([_ALSO_CALLED[kernel]] if kernel in _ALSO_CALLED else [])]
    jobs = {tile: partial(compiled, tile) for tile in tiles}
    programs = compile_all(jobs, workers=workers, budget=budget)
    return {
        tile: _trial(problem, tile, program, section, budget) for tile, program in programs.items()
    }


def _trial(
    problem: Problem,
    tile: Tile,
    compiled: Any,
    section: Mapping[str, list[dict[str, Any]]],
    budget: Budget,
) -> Trial:
    if isinstance(compiled, BaseException):
        return Trial(None, first_line(compiled))
    if not budget.left:
        return Trial(None, "not timed within the time budget")
    program, note = compiled
    try:
        error = _relative_error(program(*problem.sets[0]), problem.want)
        if not error <= TOLERANCE[problem.bucket.itemsize]:
            return Trial(None, f"relative error {error:.1e}")
        with choosing(tile, problem.bucket, section):
            return Trial(seconds_per_call(problem.function, program, problem.sets), note)
    except jax.errors.JaxRuntimeError as reason:
        return Trial(None, first_line(reason))


def _relative_error(got: Any, want: Any) -> float:
    """Return the largest relative error by norm of several arrays; NaN if there is one."""

    def error(got: jax.Array, want: jax.Array) -> jax.Array:
        difference = (got.astype(jnp.float32) - want).ravel()
        return jnp.linalg.norm(difference) / jnp.linalg.norm(want.ravel())

    return float(jnp.max(jnp.stack(jax.tree.leaves(jax.tree.map(error, got, want)))))
