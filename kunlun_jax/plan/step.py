"""The training step of an experiment on a machine, made of shapes alone."""

import dataclasses
from typing import Any, NamedTuple

import jax

from kunlun_jax.config import ConfigError, ExperimentConfig
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.schema import Schema
from kunlun_jax.models.registry import create_model
from kunlun_jax.plan.machines import Machine
from kunlun_jax.sharding import abstract_mesh, batch_sharding, check_divisible
from kunlun_jax.training.step import TrainState, make_train_step, state_shapes

_NUM_STEPS = 1000  # of the learning rate's schedule; nothing here depends on it


class Step(NamedTuple):
    """A training step and what it takes.

    Attributes:
        function: The pure function (state, batch) -> state.
        state: Shapes of the state, and how it is split.
        batch: Shapes of a batch, and how it is split.
        mesh: The devices.
        config: The experiment, with the kernels that the machine runs.
    """

    function: Any
    state: TrainState
    batch: Any
    mesh: Any
    config: ExperimentConfig


def make_step(config: ExperimentConfig, schema: Schema, machine: Machine, mesh: Any = None) -> Step:
    """Return the very step that training would run on a machine.

    Args:
        config: The experiment.
        schema: The data set's schema.
        machine: The machine.
        mesh: Its devices, to compile for them; by default a mesh without any.

    Raises:
        ConfigError: If the experiment does not go with the machine or the data set.
    """
    config = _with_kernels(config, machine)
    if mesh is None:
        mesh = abstract_mesh(config.mesh, machine.num_devices)
    check_divisible(config, mesh)
    model = create_model(config, schema)
    max_lens = {stream.name: stream.max_len for stream in config.model.streams}
    batch = batch_shapes(schema, max_lens, config.data.batch_size)
    state = state_shapes(model, config, batch, mesh, num_steps=_NUM_STEPS)
    sharding = batch_sharding(mesh)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), batch)
    function = make_train_step(model, schema, config, num_steps=_NUM_STEPS)
    return Step(function, state, batch, mesh, config)


def _with_kernels(config: ExperimentConfig, machine: Machine) -> ExperimentConfig:
    """Decide what "auto" is on that machine: here it would mean this one."""
    kernels, is_gpu = config.model.kernels, machine.device.gpu is not None
    if kernels == "triton" and not is_gpu:
        raise ConfigError("config.model.kernels: expected 'auto' or 'xla' on a CPU, got 'triton'")
    if kernels != "auto":
        return config
    model = dataclasses.replace(config.model, kernels="triton" if is_gpu else "xla")
    return dataclasses.replace(config, model=model)
