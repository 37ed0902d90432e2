"""Machines by name, as data: what their devices reach, and where each number is from.

Rates of NVIDIA's cards are those of its data sheets, dense (half of what is stated with sparsity);
products of float32 are TF32, JAX's default on these cards. Bandwidths count one direction. Memory
is what CUDA reports of the card, in `gpu_specs`.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

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
        memory_bandwidth: Bytes a second between memory and processor, read and written.
        link_bandwidth: Bytes a second that it sends to devices of its node.
        network_bandwidth: Bytes a second that it sends to other nodes.
        per_node: Devices of a node.
        gpu: Key of `absent_gpu.GPUS`; None for what is no GPU.
        sources: Where the numbers are from.
    """

    flops: Mapping[str, float]
    memory_bytes: int
    memory_fraction: float
    memory_bandwidth: float
    link_bandwidth: float = math.inf
    network_bandwidth: float = math.inf
    per_node: int = 1
    gpu: str | None = None
    sources: tuple[str, ...] = ()


_NETWORK = "8 x ConnectX-7 of 400 Gb/s: NVIDIA DGX {} user guide, introduction"
DEVICES: Mapping[str, Device] = {
    "b200": Device(
        flops={"bfloat16": 2.25e15, "float32": 1.1e15},
        memory_bytes=191_514_411_008,
        memory_fraction=_TAKEN_BY_JAX,
        memory_bandwidth=7.7e12,
        link_bandwidth=900e9,
        network_bandwidth=50e9,
        per_node=8,
        gpu="b200",
        sources=(
            "rates, memory bandwidth, NVLink: NVIDIA Blackwell data sheet, column HGX B200",
            _NETWORK.format("B200"),
        ),
    ),
    "h200": Device(
        flops={"bfloat16": 9.89e14, "float32": 4.94e14},
        memory_bytes=151_397_597_184,
        memory_fraction=_TAKEN_BY_JAX,
        memory_bandwidth=4.8e12,
        link_bandwidth=450e9,
        network_bandwidth=50e9,
        per_node=8,
        gpu="h200",
        sources=(
            "rates, memory bandwidth, NVLink: NVIDIA H200 data sheet, column SXM",
            _NETWORK.format("H200"),
        ),
    ),
    "cpu": Device(
        flops={"bfloat16": 2.1e11, "float32": 1.8e11},
        memory_bytes=25_276_510_208,
        memory_fraction=1.0,
        memory_bandwidth=6.2e10,
        sources=(
            "two cores of an AMD EPYC with AVX-512, measured: the fastest of 150 products of two "
            "1024 x 1024 matrices in JAX, and of 60 copies of 134 MB in NumPy by two threads",
        ),
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

    def seconds(self, kind: str, size: int, group: Sequence[int]) -> float:
        """Return how long a collective takes at the least, in rings and by node.

        Args:
            kind: As XLA calls it, such as "all-reduce".
            size: Bytes that are reduced, gathered or exchanged, on one device.
            group: Numbers of the devices that take part.
        """
        count = len(group)
        near = sum(n // self.device.per_node == group[0] // self.device.per_node for n in group)
        link, network = self.device.link_bandwidth, self.device.network_bandwidth
        if kind == "all-to-all":  # what goes to each device goes once
            return size / count * max((near - 1) / link, (count - near) / network)
        # First within the node, then every device of a node with its like in the other nodes.
        passes = 2 if kind == "all-reduce" else 1
        nodes = count / near
        inside = (near - 1) / near * size / link
        return passes * (inside + (nodes - 1) / nodes * size / near / network)


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
