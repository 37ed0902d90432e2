"""Temporary memory of the attention operations with kernels and with XLA, without a GPU.

    pip install -e ".[aot]"
    python -m benchmarks.kernel_memory

Compiles forward and backward pass of each operation in bf16 for an H200 that is not attached, and
prints what XLA's memory analysis says a call needs beside its inputs and outputs.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from absl import app

from benchmarks.compile_results import require_compiler
from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.plan import absent_gpu
from pallas_kernels.gdpa import gdpa
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.tile_choices import choices_for
from pallas_kernels.window_attention import window_attention

_GPU = "h200"
_HEADS, _HEAD_DIM = 4, 128
# operation, its shapes [B, T, N, H] but for N and H, and the number of scores
_CASES: dict[str, tuple[Callable, list[tuple[int, int]], int]] = {
    "gdpa, 256 keys": (gdpa, [(1152, 1024), (1152, 256), (1152, 256)], 1152 * 1024 * 256),
    "window_attention, w = 100": (
        partial(window_attention, window_size=100),
        [(256, 1024)] * 3,
        256 * 1024 * 201,
    ),
    "seed_attention, 64 seeds": (
        seed_attention,
        [(256, 64), (256, 1024), (256, 1024)],
        256 * 64 * 1024,
    ),
}


def temporary_bytes(operation: Callable, shapes: list[tuple[int, int]], implementation: str) -> int:
    """Return the temporary memory of one forward and backward pass.

    Args:
        operation: one of the three.
        shapes: batch and rows of its inputs.
        implementation: "triton" or "xla".
    """

    def step(cotangent, *arrays):
        out, pull = jax.vjp(partial(operation, implementation=implementation), *arrays)
        return out, pull(cotangent)

    arrays = [
        jax.ShapeDtypeStruct((batch, rows, _HEADS, _HEAD_DIM), jnp.bfloat16)
        for batch, rows in shapes
    ]
    arguments = absent_gpu.on_one_device(_GPU, (arrays[0], *arrays))
    with choices_for(absent_gpu.GPUS[_GPU].capability):
        compiled = absent_gpu.compile_for(_GPU, step, *arguments)
    return compiled.executable.memory_analysis().temp_size_in_bytes


def main(argv: list[str]) -> None:
    """Compile, print and write."""
    require_compiler(argv)
    rows = []
    print(f"{'operation':28}{'scores MB':>12}{'kernels MB':>12}{'XLA MB':>12}")
    for name, (operation, shapes, scores) in _CASES.items():
        row = {"operation": name, "scores_bytes": 2 * _HEADS * scores}
        row |= {
            f"{implementation}_bytes": temporary_bytes(operation, shapes, implementation)
            for implementation in ("triton", "xla")
        }
        sizes = (row["scores_bytes"], row["triton_bytes"], row["xla_bytes"])
        print(f"{name:28}" + "".join(f"{size / 1e6:12,.1f}" for size in sizes), flush=True)
        rows.append(row)
    record = environment(("jax", "jaxlib")) | {"gpu": _GPU, "operations": rows}
    write_json(RESULTS / "kernel_memory.json", record)


if __name__ == "__main__":
    app.run(main)
