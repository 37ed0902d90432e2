"""What a tiny experiment needs, against the arrays themselves and against XLA."""

import dataclasses

import jax
import pytest

from configs import b200
from kunlun_jax.config import (
    ConfigError,
    DataConfig,
    ExperimentConfig,
    MeshConfig,
    experiment_config,
)
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.flops import flops_by_module
from kunlun_jax.models.registry import create_model
from kunlun_jax.plan.compilation import compile_step
from kunlun_jax.plan.machines import machine
from kunlun_jax.plan.report import compiler_says, report, verdict
from kunlun_jax.plan.requirements import requirements
from kunlun_jax.training.step import create_train_state
from tests import factories

BATCH = 32
# One layer of one stream: the tests' type checks make tracing slow.
STREAM = dataclasses.replace(factories.BUY, num_layers=1, n_tokens=3, n_seeds=4)


def experiment(mesh=None, **changes):
    return ExperimentConfig(
        data=DataConfig(batch_size=BATCH, eval_batch_size=BATCH),
        model=factories.config(streams=(STREAM,), num_layers=1, **changes),
        mesh=mesh or MeshConfig(data=1, fsdp=-1),
    )


def batch():
    return batch_shapes(factories.SCHEMA, {"buy": STREAM.max_len}, BATCH)


def num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def needs():
    return requirements(experiment(), factories.SCHEMA, machine("cpu"))


@pytest.fixture(scope="module")
def state():
    config = experiment()
    model = create_model(config, factories.SCHEMA)
    return jax.eval_shape(
        lambda batch: create_train_state(model, config, batch, num_steps=10), batch()
    )


def test_the_state_is_exact(needs, state):
    assert needs.state_bytes == {
        "dense parameters": num_bytes(state.params),
        "optimizer (AdamW)": num_bytes(state.opt_state),
        "tables": num_bytes(state.tables),
        "optimizer (Adagrad)": num_bytes(state.accumulators),
        "batch": num_bytes(batch()),
        "counters and metrics": num_bytes(
            state.replace(params=(), opt_state=(), tables=(), accumulators=())
        ),
    }
    assert sum(needs.parameters.values()) == sum(
        leaf.size for leaf in jax.tree.leaves(state.params)
    )
    for name, table in state.tables.items():
        found = needs.tables[name]
        assert (found.rows, found.width) == table.shape
        assert found.bytes == num_bytes(table)


def test_every_module_has_its_operations_and_its_time(needs):
    flops = flops_by_module(experiment().model, factories.SCHEMA)
    assert needs.flops_per_example == flops
    assert needs.parameters.keys() <= flops.keys() == needs.least_seconds.keys()
    peak = machine("cpu").device.flops["float32"]
    seconds = 3 * BATCH * sum(flops.values()) / peak
    assert sum(needs.least_seconds.values()) == pytest.approx(seconds)


def test_on_a_mesh_every_device_has_its_share():
    """Tables by rows, the batch by examples, fsdp's parameters by eight, all else whole."""
    config, gpus = experiment(), machine("b200x8")
    one, eight = (requirements(config, factories.SCHEMA, m) for m in (machine("b200"), gpus))
    assert eight.mesh == {"data": 1, "fsdp": 8, "tensor": 1, "expert": 1}
    assert eight.kernels == "triton"
    assert eight.state_bytes["batch"] == one.state_bytes["batch"] / 8
    assert eight.state_bytes["dense parameters"] < one.state_bytes["dense parameters"]
    assert eight.parameters == one.parameters
    assert sum(eight.least_seconds.values()) == sum(one.least_seconds.values()) / 8
    assert "layer_0/buy_pffn" in report(eight, config, gpus)
    fits, line = verdict(eight, gpus)
    assert fits and line.startswith("state and batch on b200x8: fits, ")


def test_what_does_not_fit_is_said(needs):
    small = machine("cpu", memory_fraction=1e-6)
    fits, line = verdict(needs, small)
    assert not fits and line.startswith("too little memory on cpu: ")


def test_an_experiment_that_does_not_go_with_the_machine_is_refused():
    gpus = machine("b200x8")
    with pytest.raises(ConfigError, match="sizes that multiply to the 8 devices"):
        requirements(experiment(MeshConfig(data=3)), factories.SCHEMA, gpus)
    with pytest.raises(ConfigError, match="a multiple of 8"):
        data = DataConfig(batch_size=12, eval_batch_size=8)
        requirements(dataclasses.replace(experiment(), data=data), factories.SCHEMA, gpus)
    with pytest.raises(ConfigError, match="'auto' or 'xla' on a CPU, got 'triton'"):
        requirements(experiment(kernels="triton"), factories.SCHEMA, machine("cpu"))


def test_64_nodes_have_the_batch_and_the_mesh_to_match():
    one, many = (experiment_config(b200.get_config(nodes)) for nodes in ("1", "64"))
    assert many.data.batch_size == 64 * one.data.batch_size
    assert many.mesh.data == 64
    assert sum(v.num_rows for v in b200.schema().vocabularies) > 10**9
    with pytest.raises(ValueError, match="expected a number of nodes, got 'x'"):
        b200.get_config("x")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kunlun", "din"])
def test_xla_agrees_and_says_the_rest(name):
    config, cpu = experiment(name=name), machine("cpu")
    needs = requirements(config, factories.SCHEMA, cpu)
    compiled = compile_step(config, factories.SCHEMA, cpu)
    assert compiled.argument_bytes == pytest.approx(needs.argument_bytes, rel=0.01)
    assert compiled.peak_bytes >= compiled.argument_bytes + compiled.temporary_bytes > 0
    assert "temporary" in compiler_says(compiled)
    assert verdict(needs, cpu, compiled)[1].startswith("the step on cpu: fits, ")
    share = (needs.argument_bytes + 1) / cpu.device.memory_bytes
    small = machine("cpu", memory_fraction=share)
    assert verdict(needs, small)[0] and not verdict(needs, small, compiled)[0]
