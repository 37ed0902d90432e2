"""Compile for NVIDIA GPUs that are not attached.

XLA's CUDA plugin compiles on any machine once it is told the properties of the GPU, which stand in
`gpu_specs`. It needs the packages of the extra "aot", and neither a GPU nor a driver.
"""

import contextlib
import functools
import importlib.util
import inspect
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import AbstractMesh, AxisType, SingleDeviceSharding

_SPECS = pathlib.Path(__file__).parent / "gpu_specs"
_PROGRAMS = ("ptxas", "cuobjdump", "nvdisasm")


class Gpu(NamedTuple):
    """A model of GPU.

    Attributes:
        name: what JAX calls the device's kind.
        capability: compute capability, as in the table of tile choices.
        tensor_ptx: the matrix product that this generation is fast at, in PTX.
        tensor_sass: the same in its final code.
        shared_memory: largest shared memory of a block, in bytes.
    """

    name: str
    capability: str
    tensor_ptx: str
    tensor_sass: str
    shared_memory: int


GPUS: Mapping[str, Gpu] = {
    "h200": Gpu("NVIDIA H200", "9.0", "wgmma", "HGMMA", 232_448),
    "b200": Gpu("NVIDIA B200", "10.0", "tcgen05.mma", "UTCHMMA", 232_448),
    "a6000": Gpu("NVIDIA RTX A6000", "8.6", "mma.sync", "HMMA", 101_376),
}


class MissingPackagesError(Exception):
    """A package of the extra "aot" is not installed."""


class Compiled(NamedTuple):
    """What the compiler made of a function.

    Attributes:
        executable: cannot run here, but tells its memory and its HLO.
        ptx: the virtual machine code of its kernels.
        thunks: XLA's list of launches, with grid, block and shared memory.
    """

    executable: jax.stages.Compiled
    ptx: str
    thunks: str


def cuda_program(name: str) -> str:
    """Return the path of a program of NVIDIA's compiler packages.

    Raises:
        MissingPackagesError: it is not installed.
    """
    for directory in sys.path:
        path = pathlib.Path(directory, "nvidia", "cu13", "bin", name)
        if path.exists():
            return str(path)
    raise MissingPackagesError(name)


def require_packages() -> None:
    """Check that the extra "aot" is installed; call it before JAX touches a device.

    Raises:
        MissingPackagesError: a part of it is not.
    """
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise MissingPackagesError("jax_cuda13_plugin")
    for name in _PROGRAMS:
        cuda_program(name)
    # The plugin looks for a driver otherwise, and refuses to load.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    # XLA of JAX 0.12 makes a stack trace of something that it goes on without, in every
    # compilation; with the names of functions in it that takes six seconds.
    os.environ.setdefault("LLVM_DISABLE_SYMBOLIZATION", "1")


@functools.cache
def topology(gpu: str, shape: str = "1x1x1") -> topologies.TopologyDescription:
    """Return absent devices: hosts x 1 x GPUs of a host, as in "1x1x8"."""
    spec = (_SPECS / f"{gpu}.txtpb").read_text()
    return topologies.get_topology_desc(platform="cuda", topology=shape, target_config=spec)


def on_one_device(gpu: str, arguments):
    """Return the arguments' shapes, placed on one absent GPU."""
    sharding = SingleDeviceSharding(topology(gpu).devices[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arguments
    )


def compile_for(gpu: str, function: Callable, *arguments) -> Compiled:
    """Compile a function for an absent GPU.

    Args:
        gpu: a key of `GPUS`.
        function: not jitted.
        *arguments: pytrees of `jax.ShapeDtypeStruct` with shardings on devices of `topology`.
    """
    with abstract_device(GPUS[gpu].name), tempfile.TemporaryDirectory() as directory:
        lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
        options: dict[str, str | bool] = {"xla_dump_to": directory}
        # JAX 0.11 and later write PTX only where an emitter's name matches.
        if jax.__version_info__ >= (0, 11):
            options["xla_dump_emitter_re"] = ".*"
        executable = lowered.compile(compiler_options=options)
        files = sorted(pathlib.Path(directory).iterdir())
        ptx = [path.read_text() for path in files if path.suffix == ".ptx"]
        thunks = [path.read_text() for path in files if path.name.endswith("thunk_sequence.txt")]
    return Compiled(executable, max(ptx, key=len, default=""), "\n".join(thunks))


@contextlib.contextmanager
def abstract_device(kind: str) -> Iterator[None]:
    """Tell the Pallas lowering which device it is for; JAX 0.10 assumes one, later ones ask.

    Args:
        kind: What JAX calls the device's kind.
    """
    try:
        from jax.sharding import AbstractDevice
    except ImportError:
        from jax._src.mesh import AbstractDevice
    options = {"device_kind": kind, "num_cores": None}
    if "platform" in inspect.signature(AbstractDevice).parameters:
        options["platform"] = "cuda"
    device = AbstractDevice(**options)
    mesh = AbstractMesh((1,), ("_",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield
