"""What a training step needs on a machine, as far as shapes say it: sizes, state, operations."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data.schema import Schema
from kunlun_jax.flops import flops_by_module, is_layer
from kunlun_jax.plan.machines import Machine
from kunlun_jax.plan.step import Step, make_step


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
class Requirements:
    """What a training step needs on a machine.

    Attributes:
        mesh: Devices by mesh axis.
        kernels: Implementation of the attention operations.
        parameters: Dense parameters by module.
        tables: Embedding tables by vocabulary.
        state_bytes: By part of the state, and of the batch, bytes on one device.
        flops_per_example: Forward, by module (`kunlun_jax.flops`).
        least_seconds: By module, of a step, forward and backward, at the machine's peak rate.
    """

    mesh: dict[str, int]
    kernels: str
    parameters: dict[str, int]
    tables: dict[str, Table]
    state_bytes: dict[str, int]
    flops_per_example: Mapping[str, int]
    least_seconds: Mapping[str, float]

    @property
    def argument_bytes(self) -> int:
        """Bytes of state and batch on one device."""
        return sum(self.state_bytes.values())


def requirements(config: ExperimentConfig, schema: Schema, machine: Machine) -> Requirements:
    """Return what an experiment needs on a machine; no device and no data are needed.

    Args:
        config: The experiment.
        schema: The data set's schema.
        machine: The machine.

    Raises:
        ConfigError: If the experiment does not go with the machine or the data set.
    """
    step = make_step(config, schema, machine)
    model = step.config.model
    flops = flops_by_module(model, schema)
    # The backward pass counts twice.
    seconds = 3 * config.data.batch_size / (machine.device.flops[model.dtype] * machine.num_devices)
    return Requirements(
        mesh=dict(step.mesh.shape),
        kernels=model.kernels,
        parameters=_parameters(step.state.params),
        tables={
            name: Table(table.shape[0], table.shape[1], table.size * table.dtype.itemsize)
            for name, table in step.state.tables.items()
        },
        state_bytes=_state_bytes(step),
        flops_per_example=flops,
        least_seconds={name: seconds * count for name, count in flops.items()},
    )


def _parameters(params: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        keys = [entry.key for entry in path]
        module = "/".join(keys[: 2 if is_layer(keys[0]) else 1])
        counts[module] = counts.get(module, 0) + leaf.size
    return counts


def _state_bytes(step: Step) -> dict[str, int]:
    state = step.state

    def on_device(tree: Any) -> int:
        return sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )

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
