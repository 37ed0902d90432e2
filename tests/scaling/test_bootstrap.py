import math

import numpy as np
import pytest

from kunlun_jax.scaling.bootstrap import Interval, draw_seeds, interval, ratio
from kunlun_jax.scaling.fit import fit_log_law
from tests.scaling.planted import measurements

MEAN = 0.85 - 0.01 * math.log(4)  # of `falling` at the third size


def falling(flops):
    return 0.85 - 0.01 * np.log(flops / 1e6)


class TestDraws:
    def test_the_first_row_is_the_data(self):
        measured = measurements({"a": falling, "b": falling}, num_resamples=3)
        expected = measured.entropies[0].mean(axis=-1)
        np.testing.assert_allclose(draw_seeds(measured.entropies)[0], expected)

    def test_same_seed_same_draws(self):
        values = measurements({"a": falling}).entropies
        np.testing.assert_array_equal(draw_seeds(values, seed=4), draw_seeds(values, seed=4))
        assert (draw_seeds(values, seed=4) != draw_seeds(values, seed=5)).any()

    @pytest.mark.parametrize("num_seeds", [2, 3, 8])
    def test_variance_over_seeds_is_unbiased(self, num_seeds):
        # Users alike: all that differs is the seed.
        values = 0.8 + np.random.default_rng(0).normal(0, 0.01, (40, 50, num_seeds))
        drawn = draw_seeds(np.tile(values, (300, 1, 1, 1)))
        variance = drawn[1:].var(axis=0).mean()
        assert variance == pytest.approx(0.01**2 / num_seeds, rel=0.1)

    def test_a_single_seed_leaves_the_users(self):
        values = measurements({"a": falling}, num_seeds=1).entropies
        np.testing.assert_array_equal(draw_seeds(values), values[..., 0])

    def test_users_are_shared_by_all_runs(self):
        # Levels of users differ by 0.2, but every run meets the same ones.
        drawn = draw_seeds(measurements({"a": falling, "b": falling}, seed_noise=0.0).entropies)
        difference = drawn[1:, 0, 0] - drawn[1:, 1, 0]
        assert difference.std() < 0.2 * drawn[1:, 0, 0].std()


def test_coverage_of_eta_and_of_the_mean():
    trials, hits = 200, np.zeros(2)
    for seed in range(trials):
        measured = measurements(
            {"a": falling}, num_users=80, seed_noise=0.003, num_resamples=200, seed=seed
        )
        drawn = draw_seeds(measured.entropies, seed=seed)[:, 0]
        eta = interval(fit_log_law(measured.flops[0], drawn).eta, 0.9)
        hits += [eta.contains(0.01), interval(drawn[:, 2], 0.9).contains(MEAN)]
    # The standard error of a share of 0.9 in 200 trials is 0.02.
    assert ((hits / trials > 0.83) & (hits / trials < 0.97)).all(), hits / trials


class TestInterval:
    def test_percentiles(self):
        found = interval(np.concatenate([[7.0], np.arange(1.0, 101.0)]), 0.9)
        assert found == Interval(7.0, 5.0, 95.0)

    def test_infinite_draws_make_an_end_unbounded(self):
        values = np.concatenate([[1.0], np.linspace(1, 2, 90), np.full(10, np.inf)])
        assert interval(values, 0.9).high is None
        assert interval(values, 0.9).low is not None
        assert interval(values, 0.7).high is not None
        assert interval(values, 0.9).contains(1e9)

    def test_draws_that_could_be_anything_count_on_both_sides(self):
        values = np.concatenate([[1.0], np.linspace(1, 2, 90), np.full(10, np.nan)])
        assert (interval(values, 0.9).low, interval(values, 0.9).high) == (None, None)


def test_ratio_to_what_does_not_scale():
    result = ratio(np.array([2.0, 2.0, -1.0, 3.0]), np.array([4.0, -1.0, -1.0, 0.0]))
    np.testing.assert_array_equal(result, [0.5, np.inf, np.nan, np.inf])
