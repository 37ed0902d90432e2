"""The very step of an experiment, compiled for a machine that is not there."""

import collections
import dataclasses
import re
import time

import jax

from kunlun_jax.config import ConfigError, ExperimentConfig
from kunlun_jax.data.schema import Schema
from kunlun_jax.plan import absent_gpu
from kunlun_jax.plan.collectives import collectives
from kunlun_jax.plan.machines import Machine
from kunlun_jax.plan.step import make_step
from kunlun_jax.plan.traffic import traffic
from kunlun_jax.sharding import make_mesh
from pallas_kernels.tile_choices import choices_for


@dataclasses.dataclass(frozen=True)
class Compilation:
    """What XLA says of a compiled step.

    Attributes:
        seconds: That the compilation took.
        argument_bytes: State and batch, on one device.
        temporary_bytes: Everything else that it allocates, on one device.
        peak_bytes: Both, and the results that do not take the place of an argument.
        kernels: Launches of the project's own kernels, by name.
        collectives: Number and bytes of every kind of collective.
        traffic: Number of every kind of instruction, and the bytes that it reads and writes.
    """

    seconds: float
    argument_bytes: int
    temporary_bytes: int
    peak_bytes: int
    kernels: dict[str, int]
    collectives: dict[str, dict[str, int]]
    traffic: dict[str, dict[str, int]]


def compile_step(config: ExperimentConfig, schema: Schema, machine: Machine) -> Compilation:
    """Compile the training step; on a GPU that is absent, with the packages of the extra "aot".

    The arguments are those of `requirements`.

    Raises:
        ConfigError: If the experiment does not go with the machine or the data set, or there is
            no compiler for so many devices of this kind.
    """
    gpu, per_node = machine.device.gpu, machine.device.per_node
    if gpu is not None:
        nodes = max(1, machine.num_devices // per_node)
        shape = f"{nodes}x1x{min(machine.num_devices, per_node)}"
        devices, platform = absent_gpu.topology(gpu, shape).devices, "cuda"
        tiles = choices_for(absent_gpu.GPUS[gpu].capability)
    else:
        devices, platform = jax.devices("cpu")[: machine.num_devices], "cpu"
        tiles = choices_for("default")
    if len(devices) < machine.num_devices:
        raise ConfigError(
            f"--compile: expected {machine.num_devices} devices of this machine to compile for, "
            f"got {len(devices)}"
        )
    mesh = make_mesh(config.mesh, devices)
    step = make_step(config, schema, machine, mesh)
    start = time.time()
    with tiles, jax.set_mesh(mesh):
        traced = jax.jit(step.function, donate_argnums=0).trace(step.state, step.batch)
        lowered = traced.lower(lowering_platforms=(platform,))
        text = lowered.as_text()
        compiled = lowered.compile()
    memory, hlo = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None and hlo is not None  # both kinds of compiler tell
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    kernels = collections.Counter(
        re.findall(r'@__gpu\$xla\.gpu\.triton\(.*?\bname = "(\w+)"', text)
    )
    return Compilation(
        seconds=time.time() - start,
        argument_bytes=arguments,
        temporary_bytes=temporary,
        peak_bytes=arguments + temporary + results,
        kernels=dict(kernels),
        collectives=collectives(hlo),
        traffic=traffic(hlo),
    )
