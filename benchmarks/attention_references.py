"""How fast the XLA references of the three attention operations run on this machine.

    python -m benchmarks.attention_references

Prints, for shapes that training on a CPU meets, the median wall time of the forward pass and of
forward and backward together, the processor time of the latter (less disturbed by other programs),
and GFLOP/s of what the formulas need: 2 products forward, 5 more backward (scores once again),
window attention counted over the 2w + 1 keys of the window. Takes about a minute on two cores.
"""

import dataclasses
import functools
import pathlib
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.training.allocator import keep_freed_memory
from pallas_kernels.gdpa import gdpa
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.window_attention import window_attention

_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timings of which the median is printed.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of all arrays.")


@dataclasses.dataclass(frozen=True)
class Shape:
    """One configuration of a stream.

    Attributes:
        batch: B, examples.
        events: T.
        heads: N.
        head_dim: H.
        n_kv: K, key/value length of GDPA.
        seeds: P.
        window: w, events on either side.
    """

    batch: int
    events: int
    heads: int
    head_dim: int
    n_kv: int
    seeds: int
    window: int

    def __str__(self) -> str:
        """Return the letters of the spec with their sizes."""
        return (
            f"B{self.batch} T{self.events} N{self.heads} H{self.head_dim} "
            f"K{self.n_kv} P{self.seeds} w{self.window}"
        )


SHAPES = (
    Shape(512, 64, 1, 32, n_kv=32, seeds=16, window=8),
    Shape(512, 64, 4, 8, n_kv=32, seeds=16, window=8),
    Shape(256, 256, 2, 16, n_kv=32, seeds=16, window=16),
    Shape(256, 256, 1, 32, n_kv=64, seeds=32, window=32),
    Shape(64, 1024, 1, 32, n_kv=64, seeds=32, window=50),
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """A function of arrays, and what it costs.

    Attributes:
        run: The forward pass.
        arguments: What it is differentiated in.
        scores: Pairs of rows whose product is needed.
    """

    run: Callable[..., jax.Array]
    arguments: tuple[jax.Array, ...]
    scores: int


def operations(shape: Shape, dtype: str) -> dict[str, Operation]:
    """Return the operations on random data, with random lengths."""
    rng = np.random.default_rng(0)
    batch, events, heads, dim = shape.batch, shape.events, shape.heads, shape.head_dim

    def random(*sizes: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(sizes), dtype)

    lengths = jnp.asarray(rng.integers(0, events + 1, batch), jnp.int32)
    rows = tuple(random(batch, events, heads, dim) for _ in range(3))
    weights = tuple(random(batch, shape.n_kv, heads, dim) for _ in range(2))
    frequencies = jnp.asarray(10000.0 ** (-2.0 * np.arange(dim // 2) / dim), jnp.float32)
    rotation = {
        "positions": jnp.broadcast_to(jnp.arange(events), (batch, events)),
        "times": jnp.asarray(rng.exponential(2.0, (batch, events)), jnp.float32),
        "position_frequencies": frequencies,
        "time_frequencies": frequencies,
    }
    attend = functools.partial(window_attention, lengths=lengths, window_size=shape.window)
    seen = np.minimum(events, np.arange(events) + shape.window + 1)
    seen = int((seen - np.maximum(0, np.arange(events) - shape.window)).sum())
    groups = batch * heads
    return {
        "gdpa": Operation(
            functools.partial(gdpa, query_lengths=lengths, scale_in=jnp.ones(heads)),
            (rows[0], *weights),
            groups * events * shape.n_kv,
        ),
        "window": Operation(attend, rows, groups * seen),
        "window+rote": Operation(functools.partial(attend, **rotation), rows, groups * seen),
        "seed": Operation(
            functools.partial(seed_attention, lengths=lengths),
            (random(shape.seeds, heads, dim), *rows[1:]),
            groups * events * shape.seeds,
        ),
    }


def timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[float, float]:
    """Return the medians of wall and of processor time of one call, in seconds."""
    function = jax.jit(function)
    for _ in range(2):
        jax.block_until_ready(function(*arguments))
    wall, processor = [], []
    for _ in range(_REPEATS.value):
        usage, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        jax.block_until_ready(function(*arguments))
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_SELF)
        processor.append(after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime)
    return float(np.median(wall)), float(np.median(processor))


def measure(operation: Operation, head_dim: int) -> dict[str, float]:
    """Return the times of one operation in microseconds, and its GFLOP/s."""

    def both(cotangent: jax.Array, *arguments: jax.Array) -> Any:
        out, pull = jax.vjp(operation.run, *arguments)
        return out, pull(cotangent)

    forward, _ = timed(operation.run, operation.arguments)
    cotangent = jnp.ones_like(operation.run(*operation.arguments))
    total, processor = timed(both, (cotangent, *operation.arguments))
    product = 2 * operation.scores * head_dim
    return {
        "forward_us": 1e6 * forward,
        "forward_backward_us": 1e6 * total,
        "processor_us": 1e6 * processor,
        "forward_gflops": 2 * product / forward / 1e9,
        "forward_backward_gflops": 7 * product / total / 1e9,
    }


def main(argv: list[str]) -> None:
    """Print the table and write the JSON."""
    del argv
    keep_freed_memory()
    print(
        f"{'operation':12s} {'shape':36s} {'fwd us':>9s} {'fwd+bwd us':>11s} {'cpu us':>9s} "
        f"{'GFLOP/s fwd':>12s} {'fwd+bwd':>8s}"
    )
    rows = []
    for shape in SHAPES:
        for name, operation in operations(shape, _DTYPE.value).items():
            row = measure(operation, shape.head_dim)
            rows.append({"operation": name, "dtype": _DTYPE.value} | vars(shape) | row)
            print(
                f"{name:12s} {shape!s:36s} {row['forward_us']:9.0f} "
                f"{row['forward_backward_us']:11.0f} {row['processor_us']:9.0f} "
                f"{row['forward_gflops']:12.1f} {row['forward_backward_gflops']:8.1f}",
                flush=True,
            )
    out = pathlib.Path(_OUT.value or RESULTS / f"attention_references_{_DTYPE.value}.json")
    write_json(out, {"environment": environment(("jax", "jaxlib", "numpy")), "rows": rows})


if __name__ == "__main__":
    app.run(main)
