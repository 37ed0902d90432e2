"""Shapes at which the kernels are measured: arrays, and what each costs at least."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.roofline import Cost
from pallas_kernels.costs import attended_pairs
from pallas_kernels.gdpa import gdpa
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.timing import num_sets
from pallas_kernels.window_attention import window_attention

DIRECTIONS = ("forward", "backward")
# Products of a backward pass over those of its forward pass, without recomputed ones: 5 over 2.
_BACKWARD = 2.5


@dataclasses.dataclass(frozen=True)
class Workload:
    """One operation at one shape.

    Attributes:
        operation: "gdpa", "window" or "seed".
        batch: B, examples.
        rows: queries T, or seeds P.
        keys: S; equal to `rows` for a window.
        heads: N.
        head_dim: H.
        window: w, keys on either side; windows only.
        rotated: whether ROTE turns query and key; windows only.
        lengths: "full", or "half": drawn uniformly from 0 to full, independently for each example.
        jagged_keys: whether `lengths` goes for the keys of GDPA too.
        is_target: whether the project has set itself a goal for it.
        dtype: of the arrays.
    """

    operation: str
    batch: int
    rows: int
    keys: int
    heads: int = 4
    head_dim: int = 128
    window: int = 0
    rotated: bool = False
    lengths: str = "full"
    jagged_keys: bool = False
    is_target: bool = False
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """The operation and its sizes, by the letters of the spec."""
        rows = "P" if self.operation == "seed" else "T"
        parts = [self.operation + ("+rote" if self.rotated else ""), f"B{self.batch}"]
        parts += [f"{rows}{self.rows}"]
        parts += [f"w{self.window}"] if self.operation == "window" else [f"S{self.keys}"]
        parts += [f"N{self.heads}", f"H{self.head_dim}"]
        return " ".join(parts + ["half"] * (self.lengths == "half"))

    @property
    def row_lengths(self) -> np.ndarray:
        """Valid queries (or keys of the seeds) of every example, [B] int32."""
        size = self.keys if self.operation == "seed" else self.rows
        return self._draw(size, seed=0)

    @property
    def key_lengths(self) -> np.ndarray:
        """Valid keys of every example, [B] int32."""
        if self.operation == "gdpa":
            return self._draw(self.keys, seed=1) if self.jagged_keys else self._full(self.keys)
        return self.row_lengths

    def _full(self, size: int) -> np.ndarray:
        return np.full(self.batch, size, np.int32)

    def _draw(self, size: int, seed: int) -> np.ndarray:
        if self.lengths == "full":
            return self._full(size)
        rng = np.random.default_rng(seed)
        return rng.integers(0, size + 1, self.batch, dtype=np.int32)


def cost(workload: Workload, direction: str) -> Cost:
    """Return the products and bytes that a workload needs at least.

    Counted are the pairs of valid rows (within the window), and what is read of valid rows and
    written of all, padding's zeros included; of the softmax's saved logarithms 4 bytes a row.
    """
    w = workload
    itemsize = jnp.dtype(w.dtype).itemsize
    row_bytes = w.heads * w.head_dim * itemsize
    backward = direction == "backward"
    rows, keys = int(w.row_lengths.sum()), int(w.key_lengths.sum())
    if w.operation == "gdpa":
        pairs = int((w.row_lengths.astype(np.int64) * w.key_lengths).sum())
        read = rows * (1 + backward) + 2 * keys
        written = w.batch * (w.rows + (2 * w.keys if backward else 0))
        numbers = 0
    elif w.operation == "window":
        pairs = sum(attended_pairs(length, w.window) for length in w.row_lengths.tolist())
        read = rows * (5 if backward else 3)
        written = w.batch * w.rows * (3 if backward else 1)
        numbers = w.heads * (rows if backward else w.batch * w.rows) + 2 * rows * w.rotated
    else:
        pairs = w.rows * keys
        seeds = w.batch * w.rows
        read = w.rows + 2 * keys + (2 * seeds if backward else 0)
        written = (w.rows + 2 * w.batch * w.keys) if backward else seeds
        numbers = w.heads * seeds
    flops = 4.0 * pairs * w.heads * w.head_dim * (_BACKWARD if backward else 1.0)
    return Cost(flops, float((read + written) * row_bytes + 4 * numbers))


class Inputs(NamedTuple):
    """Arguments of one call.

    Attributes:
        arrays: query (or seeds), key, value: what gradients are taken of.
        options: lengths and rotation, by the names of the public functions' arguments.
        cotangent: of the output.
    """

    arrays: tuple[Any, Any, Any]
    options: dict[str, Any]
    cotangent: Any


def shapes(workload: Workload) -> Inputs:
    """Return the inputs as shapes, to compile for."""
    return jax.eval_shape(partial(_inputs, workload), 0)


def input_sets(workload: Workload) -> list[Inputs]:
    """Return random inputs on the device; several sets where one would fit the cache."""
    count = num_sets(cost(workload, "forward").bytes)
    return [_inputs(workload, seed) for seed in range(count)]


@partial(jax.jit, static_argnums=0)
def _inputs(workload: Workload, seed: Any) -> Inputs:
    w = workload
    # The generator that compiles and runs fastest on GPUs.
    keys = jax.random.split(jax.random.key(seed, impl="rbg"), 5)
    of_rows, of_keys = ((w.batch, size, w.heads, w.head_dim) for size in (w.rows, w.keys))
    of_query = of_rows[1:] if w.operation == "seed" else of_rows
    arrays = (
        jax.random.normal(keys[0], of_query, w.dtype),
        jax.random.normal(keys[1], of_keys, w.dtype),
        jax.random.normal(keys[2], of_keys, w.dtype),
    )
    options: dict[str, Any] = {"lengths": jnp.asarray(w.row_lengths)}
    if w.operation == "gdpa":
        options = {
            "query_lengths": jnp.asarray(w.row_lengths),
            "key_lengths": jnp.asarray(w.key_lengths),
        }
    if w.rotated:
        frequencies = 10000.0 ** (-2.0 * jnp.arange(w.head_dim // 2) / w.head_dim)
        steps = jax.random.exponential(keys[3], (w.batch, w.rows), jnp.float32)
        options |= {
            "positions": jnp.broadcast_to(jnp.arange(w.rows), (w.batch, w.rows)),
            "times": jnp.log1p(steps),
            "position_frequencies": frequencies,
            "time_frequencies": frequencies,
        }
    return Inputs(arrays, options, jax.random.normal(keys[4], of_rows, w.dtype))


def operation(workload: Workload, implementation: str) -> Callable[..., jax.Array]:
    """Return the public function at the workload's sizes: (query, key, value, **options)."""

    def call(query: Any, key: Any, value: Any, **options: Any) -> jax.Array:
        options["implementation"] = implementation
        if workload.operation == "gdpa":
            return gdpa(query, key, value, scale_in=workload.head_dim**-0.5, **options)
        if workload.operation == "window":
            return window_attention(query, key, value, window_size=workload.window, **options)
        return seed_attention(query, key, value, **options)

    return call


def _published() -> list[Workload]:
    """Meta's GDPA benchmark: one key length and several of queries, then both alike."""
    both = ("full", "half")
    sizes = (256, 512, 1024, 2048)
    cross = [Workload("gdpa", 1152, rows, 256, lengths=kind) for kind in both for rows in sizes]
    square = [
        Workload("gdpa", 1152, size, size, lengths=kind, jagged_keys=True)
        for kind in both
        for size in sizes[1:]
    ]
    return cross + square


def _window(**sizes: Any) -> list[Workload]:
    return [Workload("window", rotated=rotated, **sizes) for rotated in (True, False)]


# In the order in which they are measured: where time runs out, the last ones are left.
WORKLOADS = (
    Workload("gdpa", 256, 1024, 128, is_target=True),
    Workload("gdpa", 256, 1024, 256, is_target=True),
    *_window(batch=256, rows=1024, keys=1024, window=100, is_target=True),
    Workload("seed", 256, 64, 1024, is_target=True),
    Workload("seed", 256, 128, 1024, is_target=True),
    # The model's own: head dims of its streams.
    Workload("gdpa", 1024, 256, 64, head_dim=64),
    Workload("gdpa", 2048, 128, 16, heads=1, head_dim=32),
    Workload("window", 1024, 256, 256, head_dim=64, window=50, rotated=True),
    Workload("window", 2048, 128, 128, heads=1, head_dim=32, window=16, rotated=True),
    Workload("seed", 1024, 64, 256, head_dim=64),
    Workload("seed", 2048, 16, 128, heads=1, head_dim=32),
    Workload("window", 256, 1024, 1024, window=100, rotated=True, lengths="half"),
    Workload("seed", 256, 64, 1024, lengths="half"),
    *_published(),
)

# For the correctness check: sizes off the tiles, and one that fills them; all lengths differ.
CHECKED = (
    Workload("gdpa", 24, 200, 72, head_dim=64, lengths="half", jagged_keys=True),
    Workload("gdpa", 16, 1024, 256, lengths="half", jagged_keys=True),
    Workload("window", 24, 200, 200, head_dim=64, window=23, lengths="half"),
    Workload("window", 16, 1024, 1024, window=100, rotated=True, lengths="half"),
    Workload("seed", 24, 24, 200, head_dim=64, lengths="half"),
    Workload("seed", 16, 128, 1024, lengths="half"),
)

# Every path of the program on a machine without a GPU, in a minute.
DRY = (
    Workload("gdpa", 2, 48, 16, heads=2, head_dim=16, is_target=True),
    Workload("gdpa", 2, 48, 16, heads=2, head_dim=16, lengths="half", jagged_keys=True),
    Workload("window", 2, 48, 48, 2, 32, window=5, rotated=True, is_target=True),
    Workload("seed", 2, 16, 48, heads=2, head_dim=16, is_target=True),
)
