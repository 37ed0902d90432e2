import numpy as np
import pytest

from kunlun_jax.data import counter_random


def test_mixing_function_is_splitmix64():
    """The first outputs of the published generator for seed 0."""
    golden = 0x9E3779B97F4A7C15
    states = np.asarray([0, golden, 2 * golden % 2**64], np.uint64)
    assert [hex(x) for x in counter_random.mix(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_numbers_are_a_function_of_their_counters():
    n = np.arange(1000)
    whole = counter_random.bits(7, "test", n, n[:, None][:5])
    assert whole.shape == (5, 1000)
    np.testing.assert_array_equal(whole[3, 100:200], counter_random.bits(7, "test", n[100:200], 3))


@pytest.mark.parametrize(
    "other", [(8, "test", 0, 1), (7, "toast", 0, 1), (7, "test", 1, 0), (7, "test", 0, 2)]
)
def test_another_seed_purpose_or_counter_gives_another_number(other):
    assert counter_random.bits(7, "test", 0, 1) != counter_random.bits(*other)


def test_takes_negative_and_large_seeds():
    numbers = {counter_random.bits(seed, "test", 0).item() for seed in (-1, 0, 2**70 + 3)}
    assert len(numbers) == 3


def test_uniform_and_normal_moments():
    n = np.arange(200_000)
    uniform = counter_random.uniform(0, "test", n)
    assert 0 <= uniform.min() < 1e-4 and 1 - 1e-4 < uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.003)
    assert np.corrcoef(uniform[1:], uniform[:-1])[0, 1] == pytest.approx(0, abs=0.01)
    normal = counter_random.normal(0, "test", n)
    assert [normal.mean(), normal.std(), (normal**3).mean(), (normal**4).mean()] == pytest.approx(
        [0, 1, 0, 3], abs=0.06
    )


def test_integers_cover_their_range_evenly():
    counts = np.bincount(counter_random.integers(10, 0, "test", np.arange(100_000)))
    assert len(counts) == 10
    assert np.abs(counts - 10_000).max() < 500
    bounds = np.asarray([1, 2, 1000])
    assert (counter_random.integers(bounds, 0, "test", np.arange(300)[:, None]) < bounds).all()
