"""What a traced step costs, by module: operations, bytes, and the time they take at the least.

Every launch takes the longer of its operations at the peak rate and its bytes at the memory's
bandwidth, and every collective its bytes at the links' bandwidth; all follow each other. No machine
is faster than that without overlapping them, and none reaches its peaks: a floor, not a forecast.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from kunlun_jax.config import ModelConfig
from kunlun_jax.flops import is_layer
from kunlun_jax.layers.attended_pairs import attended_pairs
from kunlun_jax.models.interformer import merged_stream
from kunlun_jax.plan.machines import Machine
from kunlun_jax.plan.memory import Kernel
from kunlun_jax.plan.program import COLLECTIVES, Operation, Program
from kunlun_jax.sharding import AXES

# Matrix products of queries with keys that a kernel makes, by the name of its launch.
KERNEL_PRODUCTS = {
    "gdpa_forward": 2,
    "gdpa_backward": 5,
    "gdpa_backward_keys": 4,
    "gdpa_backward_queries": 3,
    "seed_attention_forward": 2,
    "seed_attention_backward": 5,
    "seed_attention_backward_seeds": 3,
    "seed_attention_backward_keys": 4,
    "window_attention_forward": 2,
    "window_attention_backward_queries": 3,
    "window_attention_backward_keys": 4,
}
TABLES, OPTIMIZER = "tables", "optimizer and metrics"


@dataclasses.dataclass
class Cost:
    """Costs of a part of the step on one device.

    Attributes:
        flops: Operations of matrix products, forward and backward.
        bytes: Bytes read from and written to memory.
        compute_seconds: Of the operations alone.
        memory_seconds: Of the bytes alone.
        seconds: Of both, launch by launch.
    """

    flops: float = 0.0
    bytes: float = 0.0
    compute_seconds: float = 0.0
    memory_seconds: float = 0.0
    seconds: float = 0.0


@dataclasses.dataclass
class Exchange:
    """Collectives of one kind over the same axes.

    Attributes:
        count: How many.
        bytes: What they reduce, gather or exchange on one device, together.
        seconds: Of all of them.
    """

    count: int = 0
    bytes: int = 0
    seconds: float = 0.0


def module_of(scope: str) -> str:
    """Return the module of a scope, as in "layer_0/click_pffn"; "" outside the model.

    Args:
        scope: Such as "transpose(jvp(Kunlun))/Kunlun.trunk/layer_0/click_pffn/shard_map".
    """
    match = re.match(r"(?:transpose\()?jvp\((\w+)\)\)?/?(.*)", scope)
    if match is None:
        return ""
    parts = [part for part in match[2].split("/") if part and part != f"{match[1]}.trunk"]
    depth = 2 if parts and is_layer(parts[0]) else 1
    return "/".join(parts[:depth]) or "trunk"


def costs_by_module(
    kernels: Iterable[Kernel], machine: Machine, model: ModelConfig
) -> dict[str, Cost]:
    """Return the costs of every module, of the tables, and of the rest.

    Args:
        kernels: The launches of a step.
        machine: Where it runs.
        model: The model.
    """
    found: dict[str, Cost] = {}
    peak, bandwidth = machine.device.flops[model.dtype], machine.device.memory_bandwidth
    for operation, scope, moved, trips in _launches(kernels):
        name = module_of(scope) or (TABLES if "shard_map" in scope else OPTIMIZER)
        cost = found.setdefault(name, Cost())
        flops = trips * (operation.flops or _of_kernel(operation, name, model))
        times = flops / peak, moved / bandwidth
        cost.flops += flops
        cost.bytes += moved
        cost.compute_seconds += times[0]
        cost.memory_seconds += times[1]
        cost.seconds += max(times)
    return found


def _launches(
    kernels: Iterable[Kernel], scope: str = "", trips: int = 1
) -> Iterator[tuple[Operation, str, float, int]]:
    """Yield every launch, those in loops too, with its scope, bytes and repetitions."""
    for kernel in kernels:
        operation = kernel.operation
        if operation.body is not None:
            yield from _launches(kernel.inner, operation.scope, trips * operation.trips)
        elif operation.primitive not in COLLECTIVES:
            yield operation, scope or operation.scope, trips * kernel.bytes, trips


def _of_kernel(operation: Operation, module: str, model: ModelConfig) -> float:
    """Count the operations of an attention kernel from the shapes it is given."""
    if operation.primitive != "pallas_call":
        return 0.0
    products = KERNEL_PRODUCTS[operation.scope.rsplit("/", 1)[-1]]
    query, key = [shape for shape in operation.shapes if len(shape) == 4][:2]
    batch, num_keys, heads, head_dim = key
    pairs = query[1] * num_keys
    if "window" in operation.scope.rsplit("/", 1)[-1]:
        pairs = attended_pairs(query[1], _window(module, model))
    return 2.0 * products * batch * heads * head_dim * pairs


def _window(module: str, model: ModelConfig) -> int:
    if model.name == "interformer":
        return merged_stream(model)[0].window
    name = module.rsplit("/", 1)[-1].removesuffix("_attention")
    return next(stream.window for stream in model.streams if stream.name == name)


def exchanges(
    program: Program, kernels: Iterable[Kernel], machine: Machine, sizes: Mapping[str, int]
) -> dict[tuple[str, tuple[str, ...]], Exchange]:
    """Return the collectives by kind and axes.

    Args:
        program: The step.
        kernels: Its launches.
        machine: Where it runs.
        sizes: Devices by mesh axis.
    """
    found: dict[tuple[str, tuple[str, ...]], Exchange] = {}

    def visit(sizes_of: list[int], kernels: Iterable[Kernel], trips: int) -> None:
        for kernel in kernels:
            operation = kernel.operation
            if operation.body is not None:
                visit(operation.body.bytes, kernel.inner, trips * operation.trips)
            kind = COLLECTIVES.get(operation.primitive, operation.primitive)
            if kind not in COLLECTIVES.values() or not operation.axes:
                continue
            ends = operation.inputs if kind == "reduce-scatter" else operation.outputs
            size = sum(sizes_of[number] for number in ends)
            group = group_of(operation.axes, sizes)
            entry = found.setdefault((kind, operation.axes), Exchange())
            entry.count += trips
            entry.bytes += trips * size
            entry.seconds += trips * machine.seconds(kind, size, group)

    visit(program.bytes, kernels, 1)
    return found


def group_of(axes: Iterable[str], sizes: Mapping[str, int]) -> list[int]:
    """Return the devices that exchange with device 0 over some axes of the mesh.

    Args:
        axes: The axes.
        sizes: Devices by mesh axis; the last axis is the next neighbour.
    """
    steps = {}
    step = 1
    for name in reversed(AXES):
        steps[name] = step
        step *= sizes[name]
    ranges = [[steps[name] * i for i in range(sizes[name])] for name in axes]
    return sorted(map(sum, itertools.product(*ranges)))


def mfu(flops_per_example: int, examples: int, seconds: float, machine: Machine, dtype: str):
    """Return the share of the machine's peak that a model's own operations make up.

    Args:
        flops_per_example: Forward; the backward pass counts twice as much.
        examples: Of a step.
        seconds: Of a step.
        machine: Where it runs.
        dtype: Of the products.
    """
    peak = machine.device.flops[dtype] * machine.num_devices
    return 3 * flops_per_example * examples / (seconds * peak) if seconds else math.nan
