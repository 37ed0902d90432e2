import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.plan.absent_gpu import GPUS
from kunlun_jax.plan.machines import DEVICES, machine


def test_a_name_is_a_kind_and_a_number():
    assert machine("b200x8").num_devices == 8
    assert machine("b200x512").device is DEVICES["b200"]
    assert machine("h200").num_devices == 1
    assert machine("cpu").device.gpu is None


@pytest.mark.parametrize("name", ["b300x8", "b200x", "b200x0", "x8", "", "b200x-8"])
def test_another_name_is_refused(name):
    with pytest.raises(ConfigError, match="--machine: expected one of b200, h200, cpu"):
        machine(name)


def test_parts_of_nodes_are_refused():
    with pytest.raises(ConfigError, match="up to 8 devices of b200, or a multiple of it, got 12"):
        machine("b200x12")


def test_memory_is_what_jax_takes():
    gpu = machine("b200")
    assert gpu.usable_bytes == 0.75 * gpu.device.memory_bytes
    assert machine("b200", memory_fraction=0.9).usable_bytes == 0.9 * gpu.device.memory_bytes
    with pytest.raises(ConfigError, match=r"--memory_fraction: expected \(0, 1\], got 1.5"):
        machine("b200", memory_fraction=1.5)


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_every_number_has_a_source_and_every_gpu_a_compiler(device):
    assert device.source
    assert device.gpu is None or device.gpu in GPUS
    assert {"float32", "bfloat16"} <= set(device.flops)
