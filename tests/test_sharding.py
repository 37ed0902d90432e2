"""Rules, and training on a mesh of several devices (in a process of its own, which has them)."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from kunlun_jax.config import ConfigError, DataConfig, ExperimentConfig, MeshConfig
from kunlun_jax.sharding import (
    EXAMPLES,
    ROWS,
    _whole_parts,
    check_divisible,
    make_mesh,
    on_each_shard,
    parts_held,
    spec_of,
)
from tests import factories, processes
from tests.processes import run_python

SIZES = {"data": 2, "fsdp": 2, "tensor": 2, "expert": 1}


class TestSpecOf:
    def test_a_kernel_is_split_over_fsdp_and_tensor(self):
        assert spec_of(("embed", "heads"), (8, 8), SIZES) == PartitionSpec("fsdp", "tensor")

    def test_rows_of_tables_are_split_over_the_whole_mesh(self):
        split = spec_of(("vocab", "embed"), (64, 8), SIZES)
        assert split == PartitionSpec(("data", "fsdp", "tensor", "expert"), None)

    def test_what_does_not_divide_stays_whole(self):
        assert spec_of(("embed", "heads"), (8, 3), SIZES) == PartitionSpec("fsdp", None)

    def test_axes_without_a_rule_stay_whole(self):
        assert spec_of(("kv", None), (8, 8), SIZES) == PartitionSpec(None, None)


class TestCheckDivisible:
    MESH = make_mesh(MeshConfig(data=2, expert=4), jax.devices() * 8)

    @pytest.mark.parametrize(
        ("data", "model", "message"),
        [
            ({"batch_size": 9}, {}, r"config.data.batch_size: expected a multiple of 2.*got 9"),
            ({"eval_batch_size": 3}, {}, "config.data.eval_batch_size: expected.*got 3"),
            ({"batch_size": 8, "parts": 3}, {}, r"batch_size: .* multiple of 3 \(data.parts\)"),
            ({}, {"wukong": {"num_experts": 3}}, "config.model.wukong.num_experts: .*mesh.expert"),
        ],
    )
    def test_what_does_not_divide_is_one_line(self, data, model, message):
        config = ExperimentConfig(data=DataConfig(**data), model=factories.config(**model))
        with pytest.raises(ConfigError, match=message):
            check_divisible(config, self.MESH)

    def test_heads(self):
        mesh = make_mesh(MeshConfig(tensor=8), jax.devices() * 8)
        with pytest.raises(ConfigError, match=r"num_heads: expected a multiple of 8 \(mesh.tensor"):
            check_divisible(ExperimentConfig(model=factories.config()), mesh)


def groups_of(process_of):
    """Return the groups of a batch that each process has."""
    return {
        process: {group for group, owner in enumerate(process_of) if owner == process}
        for process in process_of
    }


class TestPartsHeld:
    @pytest.mark.parametrize(
        ("process_of", "num_parts", "expected"),
        [
            ([0, 0, 0, 0], 3, {0: (0, 1, 2)}),
            ([0, 0, 1, 1], 2, {0: (0,), 1: (1,)}),
            ([0, 0, 1, 1], 4, {0: (0, 1), 1: (2, 3)}),
            ([0, 1], 6, {0: (0, 1, 2), 1: (3, 4, 5)}),
            ([0, 1, 2, 3], 4, {0: (0,), 1: (1,), 2: (2,), 3: (3,)}),
            ([0, 1, 1, 0], 4, {0: (0, 3), 1: (1, 2)}),
        ],
    )
    def test_each_process_has_a_share(self, process_of, num_parts, expected):
        by_process = groups_of(process_of)
        assert _whole_parts(by_process, len(process_of), num_parts) == expected

    def test_processes_that_share_examples_have_the_same_parts(self):
        both = {0, 1}
        assert _whole_parts({0: both, 1: both}, 2, 3) == {0: (0, 1, 2), 1: (0, 1, 2)}

    @pytest.mark.parametrize(
        ("process_of", "num_parts", "least"),
        [([0, 0, 1, 1], 3, 2), ([0, 1, 2, 3], 2, 4), ([0, 0, 0, 1, 1, 1], 5, 2)],
    )
    def test_pieces_of_parts_are_refused(self, process_of, num_parts, least):
        by_process = groups_of(process_of)
        message = (
            rf"config\.data\.parts: expected a multiple of {least}, so that each process has whole "
            rf"parts, got {num_parts}"
        )
        with pytest.raises(ConfigError, match=message):
            _whole_parts(by_process, len(process_of), num_parts)

    def test_one_process_has_all(self):
        mesh = make_mesh(MeshConfig(), jax.devices())
        assert parts_held(mesh, 5) == (0, 1, 2, 3, 4)


class TestMakeMesh:
    def test_minus_one_takes_the_rest(self):
        mesh = make_mesh(MeshConfig(data=-1, fsdp=2), jax.devices() * 8)
        assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1, "expert": 1}

    @pytest.mark.parametrize(
        "sizes", [MeshConfig(data=3), MeshConfig(data=-1, fsdp=3), MeshConfig(data=-1, fsdp=-1)]
    )
    def test_other_sizes_are_refused(self, sizes):
        with pytest.raises(ConfigError, match=r"config.mesh: expected sizes.* 8 devices.*got data"):
            make_mesh(sizes, jax.devices() * 8)


def test_without_a_mesh_it_is_a_plain_call():
    rows = jnp.ones((3, 5, 1, 2))
    out = on_each_shard(
        lambda rows, lengths: rows * lengths[:, None, None, None],
        {"rows": (rows, ROWS), "lengths": (jnp.arange(3), EXAMPLES)},
        ROWS,
    )
    assert (out[2] == 2).all()


@pytest.mark.parametrize(
    ("kernels", "meshes"),
    [
        ("xla", ["2 2 2 1", "2 1 2 2", "1 1 1 8"]),
        ("triton_interpret", ["2 2 2 1"]),
        # Parts of the first, whose every axis is used.
        pytest.param("xla", ["8 1 1 1", "2 4 1 1"], marks=pytest.mark.slow),
    ],
)
def test_ten_steps_are_those_of_one_device(kernels, meshes):
    assert on_eight_devices("tests.sharded_training", kernels, *meshes) == meshes


def test_ten_steps_of_two_processes_are_those_of_one_device():
    command = ["-m", "tests.sharded_training", "xla", "2 2 2 1"]
    first, second = processes.finish(processes.start([command] * 2, devices=4))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    # Among what Gloo says there, in pieces, of what it connects.
    assert first[1].count("2 2 2 1") == 1


def test_rows_of_split_tables_are_fetched_and_updated_exactly():
    want = ["even", "one owner", "skewed", "single", "rounding", "spread", "bytes do not grow"]
    assert on_eight_devices("tests.sharded_tables") == want


def on_eight_devices(module: str, *arguments: str) -> list[str]:
    """Run a module in a process with eight CPU devices; return the lines that it prints."""
    variables = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    result = run_python("-m", module, *arguments, variables=variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()
