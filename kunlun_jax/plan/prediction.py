"""The plan of an experiment: its sizes, its memory on a device, and its time at the least."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data.schema import Schema
from kunlun_jax.flops import flops_by_module, is_layer
from kunlun_jax.plan.costs import Cost, Exchange, costs_by_module, exchanges, mfu
from kunlun_jax.plan.machines import Machine
from kunlun_jax.plan.memory import Buffer, usage
from kunlun_jax.plan.splits import of_spec, share
from kunlun_jax.plan.step import Step, make_step, trace

# How the buffers that are alive at the peak are called, by the scope that makes them.
_KINDS = (
    ("activations kept for the backward pass", "jvp("),
    ("gradients, and zeros to add them up in", "transpose(jvp("),
)
_OTHER = "rows of tables, and the rest"


@dataclasses.dataclass(frozen=True)
class Table:
    """An embedding table.

    Attributes:
        rows: Its rows.
        width: Its width.
        bytes: On all devices together.
    """

    rows: int
    width: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a training step needs on a machine.

    Attributes:
        mesh: Devices by mesh axis.
        kernels: Implementation of the attention operations.
        parameters: Dense parameters by module.
        tables: Embedding tables by vocabulary.
        state_bytes: By part of the state, and of the batch, bytes on one device.
        temporary_bytes: Most that is alive at once beside the state and the batch, on one device.
        alive_bytes: What that is, by kind.
        flops_per_example: Forward, by module (`kunlun_jax.flops`).
        costs: Of the step on one device, by module.
        exchanges: Collectives, by "kind over axes".
        seconds: Of a step, at the least.
        mfu: Model FLOPs utilization at that.
    """

    mesh: dict[str, int]
    kernels: str
    parameters: dict[str, int]
    tables: dict[str, Table]
    state_bytes: dict[str, int]
    temporary_bytes: int
    alive_bytes: dict[str, int]
    flops_per_example: Mapping[str, int]
    costs: dict[str, Cost]
    exchanges: dict[str, Exchange]
    seconds: float
    mfu: float

    @property
    def argument_bytes(self) -> int:
        """Bytes of state and batch on one device."""
        return sum(self.state_bytes.values())

    @property
    def peak_bytes(self) -> int:
        """Most bytes in use at once on one device."""
        return self.argument_bytes + self.temporary_bytes


def predict(config: ExperimentConfig, schema: Schema, machine: Machine) -> Prediction:
    """Return the plan of an experiment on a machine; no device and no data are needed.

    Args:
        config: The experiment.
        schema: The data set's schema.
        machine: The machine.

    Raises:
        ConfigError: If the experiment does not go with the machine or the data set.
    """
    step = make_step(config, schema, machine)
    program, model = trace(step, machine), step.config.model
    found = usage(program)
    sizes = dict(step.mesh.shape)
    costs = costs_by_module(found.kernels, machine, model)
    sent = exchanges(program, found.kernels, machine, sizes)
    seconds = sum(c.seconds for c in costs.values()) + sum(e.seconds for e in sent.values())
    flops = flops_by_module(model, schema)
    examples = config.data.batch_size
    return Prediction(
        mesh=sizes,
        kernels=model.kernels,
        parameters=_parameters(step.state.params),
        tables={
            name: Table(table.shape[0], table.shape[1], _bytes(table))
            for name, table in step.state.tables.items()
        },
        state_bytes=_state_bytes(step),
        temporary_bytes=found.peak,
        alive_bytes=_by_kind(found.alive),
        flops_per_example=flops,
        costs=costs,
        exchanges={
            f"{kind} over {', '.join(axes)}": exchange for (kind, axes), exchange in sent.items()
        },
        seconds=seconds,
        mfu=mfu(sum(flops.values()), examples, seconds, machine, model.dtype),
    )


def _parameters(params: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        keys = [entry.key for entry in path]
        module = "/".join(keys[: 2 if is_layer(keys[0]) else 1])
        counts[module] = counts.get(module, 0) + leaf.size
    return counts


def _state_bytes(step: Step) -> dict[str, int]:
    state, sizes = step.state, step.mesh.shape

    def on_device(tree: Any) -> int:
        total = 0
        for leaf in jax.tree.leaves(tree):
            local = share(leaf.shape, of_spec(leaf.sharding.spec, len(leaf.shape)), sizes)
            total += math.prod(local) * leaf.dtype.itemsize
        return total

    parts = {
        "dense parameters": state.params,
        "optimizer (AdamW)": state.opt_state,
        "tables": state.tables,
        "optimizer (Adagrad)": state.accumulators,
        "batch": step.batch,
    }
    counted = {name: on_device(part) for name, part in parts.items()}
    counted["counters and metrics"] = on_device((state, step.batch)) - sum(counted.values())
    return counted


def _by_kind(buffers: tuple[Buffer, ...]) -> dict[str, int]:
    sizes = dict.fromkeys((*(name for name, _ in _KINDS), _OTHER), 0)
    for buffer in buffers:
        kind = next((name for name, begin in _KINDS if buffer.scope.startswith(begin)), _OTHER)
        sizes[kind] += buffer.bytes
    return sizes


def _bytes(array: Any) -> int:
    return array.size * array.dtype.itemsize
