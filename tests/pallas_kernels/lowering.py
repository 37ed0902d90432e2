"""Lower a function for CUDA on a machine without a GPU, and list the kernels in the result."""

import re
from typing import NamedTuple

import jax

from kunlun_jax.plan.absent_gpu import abstract_device


class Kernel(NamedTuple):
    name: str
    num_warps: int
    num_stages: int


def lower_for_cuda(function, *arguments) -> str:
    """Return the StableHLO text of the jitted function."""
    with abstract_device("NVIDIA H200"):
        return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def triton_kernels(text: str) -> list[Kernel]:
    """Return the Triton kernels that the lowered text calls, in order."""
    calls = re.findall(r"@__gpu\$xla\.gpu\.triton\(.*", text)
    kernels = []
    for call in calls:
        name = re.search(r'\bname = "(\w+)"', call)
        warps, stages = (
            re.search(rf"\b{key} = (\d+) : i32", call) for key in ("num_warps", "num_stages")
        )
        kernels.append(Kernel(name[1], int(warps[1]), int(stages[1])))
    return kernels


def array_sizes(text: str) -> set[int]:
    """Return the number of elements of every array in the lowered text."""
    sizes = set()
    for shape in re.findall(r"tensor<((?:\d+x)+)[a-z]", text):
        count = 1
        for size in shape.rstrip("x").split("x"):
            count *= int(size)
        sizes.add(count)
    return sizes
