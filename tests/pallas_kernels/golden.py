"""The Triton IR of the default tiles, kept as text.

    python -m tests.pallas_kernels.golden    # writes the files anew

One file for a kernel at one shape: forward and backward pass of every operation in bf16, H = 128,
with the tiles that an H200 takes. A change of a file is a change of this package or of JAX; and
jax-triton, or Triton itself, could launch what it holds without Pallas.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp

from benchmarks import kernel_cases
from benchmarks.kernel_cases import Case
from benchmarks.triton_ir import triton_ir
from kunlun_jax.plan.absent_gpu import GPUS
from pallas_kernels.tile_choices import choices_for, choose

# The version of JAX that the files are made with; others spell the same program differently.
JAX_VERSION = "0.10.2"
FOLDER = pathlib.Path(__file__).parent / "golden"
GPU = "h200"
_HEAD_DIM = 128
# Kernel: rows, keys (of a window, those in its reach), and whether there is a rotation.
_SIZES = {
    "gdpa_forward": (1024, 256, False),
    "gdpa_backward_keys": (1024, 256, False),
    "gdpa_backward_queries": (1024, 256, False),
    "window_attention_forward": (1024, 201, False),
    "window_attention_backward_queries": (1024, 201, True),
    "window_attention_backward_keys": (1024, 201, True),
    "seed_attention_forward": (64, 1024, False),
    "seed_attention_backward": (64, 1024, False),
}
KERNELS = tuple(_SIZES)


def case_of(kernel: str) -> Case:
    """Return a kernel at its shape, with its tile of the table."""
    rows, keys, rotated = _SIZES[kernel]
    like = jnp.zeros((1, _HEAD_DIM), jnp.bfloat16)
    with choices_for(GPUS[GPU].capability):
        table_name = kernel_cases.table_name(kernel)
        tile = choose(table_name, like, rows=rows, keys=keys, rotated=rotated)
    case = Case(kernel, "bf16", _HEAD_DIM, rows, keys, rotated, tile)
    assert kernel_cases.can_launch(case), f"{kernel} does not run at these sizes"
    return case


def ir_of(kernel: str) -> str:
    """Return what is kept of a kernel."""
    return triton_ir(GPU, case_of(kernel))


def main() -> None:
    """Write the files of the version at hand."""
    if jax.__version__ != JAX_VERSION:
        sys.exit(
            f"error: expected jax {JAX_VERSION}, of which the files are, got {jax.__version__}"
        )
    FOLDER.mkdir(exist_ok=True)
    for kernel in KERNELS:
        (FOLDER / f"{kernel}.mlir").write_text(ir_of(kernel))


if __name__ == "__main__":
    main()
