"""Lower a function for CUDA on a machine without a GPU, and list the kernels in the result."""

import contextlib
import inspect
import re
from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh, AxisType


class Kernel(NamedTuple):
    name: str
    num_warps: int
    num_stages: int


@contextlib.contextmanager
def _abstract_gpu():
    # From 0.11 on, lowering asks for an abstract device where no GPU is attached.
    try:
        from jax.sharding import AbstractDevice
    except ImportError:
        from jax._src.mesh import AbstractDevice
    options = {"device_kind": "NVIDIA H200", "num_cores": None}
    if "platform" in inspect.signature(AbstractDevice).parameters:
        options["platform"] = "cuda"
    device = AbstractDevice(**options)
    mesh = AbstractMesh((1,), ("_",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


def lower_for_cuda(function, *arguments) -> str:
    """Return the StableHLO text of the jitted function."""
    with _abstract_gpu():
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
