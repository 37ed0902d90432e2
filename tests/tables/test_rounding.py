import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.tables.rounding import round_stochastically, rounding_key
from tests import factories

KEY = rounding_key(0, jnp.asarray(3), "item")
ROWS = jnp.arange(40_000)
round_rows = factories.jit(round_stochastically)


def neighbours(value):
    """Return the numbers that bfloat16 has around a float32, the one nearer to 0 first."""
    below = np.float32(value).view(np.uint32) & np.uint32(0xFFFF0000)
    return below.view(np.float32), (below + np.uint32(0x10000)).view(np.float32)


@pytest.mark.parametrize("value", [1.0 + 2**-9, -3.0 - 2**-10, 0.1, -1e-3, 3e-39])
def test_gives_a_neighbour_and_the_value_on_average(value):
    rounded = round_rows(jnp.full((len(ROWS), 3), value, jnp.float32), KEY, ROWS)
    assert rounded.dtype == jnp.bfloat16
    found = np.asarray(rounded, np.float64)
    low, high = (float(n) for n in neighbours(value))
    assert set(np.unique(found)) <= {low, high}
    share = (np.float64(np.float32(value)) - low) / (high - low)
    # Five standard deviations of a mean of as many throws of a coin; odd and even columns apart.
    bound = 5 * (share * (1 - share) / len(ROWS)) ** 0.5 + 2**-16
    np.testing.assert_allclose((found == high).mean(axis=0), share, atol=bound)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, 2**-126, np.inf, -np.inf, np.nan])
def test_what_bfloat16_has_stays(value):
    rounded = round_rows(jnp.full((1000, 4), value, jnp.float32), KEY, ROWS[:1000])
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(rounded, np.float32), np.float32(value))


def test_a_row_is_rounded_by_its_number_whatever_stands_beside_it():
    values = factories.array(6, 5)
    numbers = factories.ints(3, 100, 7, 2**30, 0, 5)
    whole = np.asarray(round_rows(values, KEY, numbers), np.float32)
    some = np.asarray(round_rows(values[3:1:-1], KEY, numbers[3:1:-1]), np.float32)
    np.testing.assert_array_equal(some, whole[3:1:-1])


def test_seeds_steps_and_tables_round_differently_and_everything_repeats():
    values = factories.array(500, 4)

    def rounded(seed, step, table):
        key = rounding_key(seed, jnp.asarray(step), table)
        return np.asarray(round_rows(values, key, ROWS[:500]), np.float32)

    first = rounded(0, 0, "item")
    np.testing.assert_array_equal(rounded(0, 0, "item"), first)
    for other in ((1, 0, "item"), (0, 1, "item"), (0, 0, "user")):
        # Values lie anywhere between their neighbours, so a third of them rounds differently.
        assert 0.2 < np.mean(rounded(*other) != first) < 0.5
    up = np.asarray(first > np.asarray(values))
    correlations = np.corrcoef(up.T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.25  # five standard deviations


def test_keys_are_those_of_the_jitted_step():
    inside = jax.jit(lambda step: jax.random.key_data(rounding_key(5, step, "item")))(3)
    outside = jax.random.key_data(rounding_key(5, jnp.asarray(3), "item"))
    np.testing.assert_array_equal(inside, outside)
