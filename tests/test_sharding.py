"""Rules, and attention on a mesh of several devices (in a process of its own, which has them)."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from kunlun_jax.config import ConfigError, MeshConfig
from kunlun_jax.sharding import EXAMPLES, ROWS, make_mesh, on_each_shard, spec_of

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


def test_attention_and_its_gradients_are_those_of_one_device():
    environment = dict(
        os.environ,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    result = subprocess.run(
        [sys.executable, "-m", "tests.sharded_attention"],
        cwd=pathlib.Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["triton_interpret", "xla"]
