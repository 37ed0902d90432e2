"""Machines by name, as data: what their devices reach, and where each number is from.

Rates of NVIDIA's cards are those of its data sheets, dense (half of what is stated with sparsity);
products of float32 are TF32, JAX's default on these cards. Memory is what CUDA reports of the
card, in `gpu_specs`.
"""

import dataclasses
import re
from collections.abc import Mapping

from kunlun_jax.config import ConfigError

# Share of a GPU's memory that JAX takes for itself unless XLA_CLIENT_MEM_FRACTION says otherwise:
# https://docs.jax.dev/en/latest/gpu_memory_allocation.html
_TAKEN_BY_JAX = 0.75


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of device.

    Attributes:
        flops: Operations a second of matrix products, by dtype.
        memory_bytes: Memory.
        memory_fraction: Share of it that JAX takes.
        per_node: Devices of a node.
        gpu: Key of `absent_gpu.GPUS`; None for what is no GPU.
        source: Where the rates are from.
    """

    flops: Mapping[str, float]
    memory_bytes: int
    memory_fraction: float
    per_node: int = 1
    gpu: str | None = None
    source: str = ""


def _gpu(name: str, bfloat16: float, float32: float, memory_bytes: int, sheet: str) -> Device:
    flops = {"bfloat16": bfloat16, "float32": float32}
    source = f"rates: NVIDIA {sheet}"
    return Device(flops, memory_bytes, _TAKEN_BY_JAX, per_node=8, gpu=name, source=source)


DEVICES: Mapping[str, Device] = {
    "b200": _gpu("b200", 2.25e15, 1.1e15, 191_514_411_008, "Blackwell data sheet, column HGX B200"),
    "h200": _gpu("h200", 9.89e14, 4.94e14, 151_397_597_184, "H200 data sheet, column SXM"),
    "cpu": Device(
        flops={"bfloat16": 2.1e11, "float32": 1.8e11},
        memory_bytes=25_276_510_208,
        memory_fraction=1.0,
        source="rates: two cores of an AMD EPYC with AVX-512, the fastest of 150 products of two "
        "1024 x 1024 matrices in JAX",
    ),
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Equal devices, in nodes.

    Attributes:
        name: As the command line has it.
        device: What each of them is.
        num_devices: How many.
    """

    name: str
    device: Device
    num_devices: int

    @property
    def usable_bytes(self) -> float:
        """Memory that JAX takes on a device."""
        return self.device.memory_bytes * self.device.memory_fraction


def machine(name: str, *, memory_fraction: float | None = None) -> Machine:
    """Return the machine of a name such as "b200x8": the kind of device, and how many.

    Args:
        name: Without a number it is one device; from a node on, whole nodes.
        memory_fraction: Share of the memory that JAX takes; by default what JAX does.

    Raises:
        ConfigError: On another name, or parts of nodes beside whole ones.
    """
    match = re.fullmatch(r"([a-z]+\d*)(?:x([1-9]\d*))?", name)
    if match is None or match[1] not in DEVICES:
        raise ConfigError(
            f"--machine: expected one of {', '.join(DEVICES)}, and how many, as in b200x8; "
            f"got {name!r}"
        )
    device, count = DEVICES[match[1]], int(match[2] or 1)
    if memory_fraction is not None:
        if not 0 < memory_fraction <= 1:
            raise ConfigError(f"--memory_fraction: expected (0, 1], got {memory_fraction}")
        device = dataclasses.replace(device, memory_fraction=memory_fraction)
    if count > device.per_node and count % device.per_node:
        raise ConfigError(
            f"--machine: expected up to {device.per_node} devices of {match[1]}, or a multiple of "
            f"it, got {count}"
        )
    return Machine(name, device, count)
