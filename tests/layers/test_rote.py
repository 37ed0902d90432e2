import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import ROTEConfig
from kunlun_jax.layers.rote import TimeFrequencies, frequencies, log_gaps
from tests import oracles

AGES = np.asarray([[9000, 4000, 4000, 100], [86_400 * 400, 86_400, 3, 0]], np.int32)
ROTE = ROTEConfig(time_scale=3600.0)


@pytest.mark.parametrize("gaps", ["adjacent", "to_request", "positions_only"])
def test_log_gaps_equal_the_formula(gaps):
    rote = dataclasses.replace(ROTE, gaps=gaps)
    expected = [oracles.log_gaps(ages, rote) for ages in AGES.astype(np.float64)]
    np.testing.assert_allclose(log_gaps(jnp.asarray(AGES), rote), expected, rtol=1e-6)


def test_the_first_event_has_no_gap_and_equal_times_have_none():
    tau = log_gaps(jnp.asarray(AGES), ROTE)
    assert tau[0, 0] == 0
    assert tau[0, 2] == 0
    assert np.all(tau[0, [1, 3]] > 0)


@pytest.mark.parametrize("gaps", ["adjacent", "to_request"])
def test_negative_gaps_count_as_zero(gaps):
    ages = jnp.asarray([[-5, 10, -20]])  # events of the future, and an unsorted one
    tau = log_gaps(ages, dataclasses.replace(ROTE, gaps=gaps))
    clamped = [0, 0, 30] if gaps == "adjacent" else [0, 10, 0]
    np.testing.assert_allclose(tau[0], np.log1p(np.asarray(clamped) / 3600.0), rtol=1e-6)


def test_adjacent_gaps_do_not_move_with_the_request_and_ages_do():
    later = jnp.asarray(AGES + 500)
    to_request = dataclasses.replace(ROTE, gaps="to_request")
    np.testing.assert_array_equal(log_gaps(later, ROTE), log_gaps(jnp.asarray(AGES), ROTE))
    assert np.all(log_gaps(later, to_request) > log_gaps(jnp.asarray(AGES), to_request))


def test_frequencies_equal_the_formula():
    expected = [100.0 ** (-2 * i / 8) for i in range(4)]
    np.testing.assert_allclose(frequencies(8, 100.0), expected, rtol=1e-6)


def test_time_frequencies_start_at_their_base_and_are_parameters_only_where_learnable():
    fixed = TimeFrequencies(8, ROTE)
    learned = TimeFrequencies(8, dataclasses.replace(ROTE, learnable=True))
    assert jax.eval_shape(fixed.init, jax.random.key(0)) == {}
    variables = learned.init(jax.random.key(0))
    assert variables["params"]["time_frequencies"].names == ("head_dim",)
    np.testing.assert_array_equal(learned.apply(variables), fixed.apply({}))
    changed = {"params": {"time_frequencies": jnp.arange(4.0)}}
    np.testing.assert_array_equal(learned.apply(changed), np.arange(4.0))


def test_frequencies_of_a_time_that_is_not_used_are_no_parameters():
    unused = dataclasses.replace(ROTE, learnable=True, gaps="positions_only")
    assert jax.eval_shape(TimeFrequencies(8, unused).init, jax.random.key(0)) == {}
