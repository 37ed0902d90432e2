import numpy as np
import pytest
from scipy.optimize import curve_fit

from kunlun_jax.scaling.fit import EXPONENTS, fit_log_law, fit_power_law

FLOPS = np.array([1e6, 2e6, 5e6, 1e7, 4e7])


class TestLogLaw:
    def test_recovers_exact_points(self):
        planted = np.array([[0.85, 0.012], [0.9, -0.003], [0.8, 0.0]])
        ne = planted[:, :1] - planted[:, 1:] * np.log(FLOPS / 1e6)
        law = fit_log_law(FLOPS, ne)
        np.testing.assert_allclose(law.ne_0, planted[:, 0], rtol=1e-12)
        np.testing.assert_allclose(law.eta, planted[:, 1], atol=1e-14)
        np.testing.assert_allclose(law.predict(1e8), planted @ [1, -np.log(100)], rtol=1e-12)

    def test_is_the_least_squares_line(self):
        ne = np.random.default_rng(0).uniform(0.7, 0.9, (4, 5))
        law = fit_log_law(FLOPS, ne)
        for row, expected in enumerate(ne):
            slope, offset = np.polyfit(np.log(FLOPS / 1e6), expected, 1)
            np.testing.assert_allclose([law.eta[row], law.ne_0[row]], [-slope, offset])

    def test_refuses_a_single_size(self):
        with pytest.raises(ValueError, match="at least 2 sizes"):
            fit_log_law(np.array([1e6, 1e6]), np.ones((1, 2)))


class TestPowerLaw:
    def test_recovers_exact_points(self):
        planted = np.array([[0.75, 0.1, 0.3], [0.6, 0.05, 1.2], [0.0, 0.9, 0.05]])
        a, b, c = planted.T[:, :, None]
        law = fit_power_law(FLOPS, a + b * (FLOPS / 1e6) ** -c)
        np.testing.assert_allclose(np.stack([law.a, law.b, law.c], 1), planted, atol=2e-3)
        expected = a + b * (1e8 / 1e6) ** -c
        np.testing.assert_allclose(law.predict(1e8), expected[:, 0], atol=1e-4)

    def test_is_as_good_as_a_general_optimizer(self):
        generator = np.random.default_rng(1)
        clean = 0.7 + 0.15 * (FLOPS / 1e6) ** -0.4
        ne = clean + generator.normal(0, 0.002, (5, 5))
        law = fit_power_law(FLOPS, ne)
        for row, y in enumerate(ne):

            def power(x, a, b, c):
                return a + b * x**-c

            found, _ = curve_fit(
                power, FLOPS / 1e6, y, (0.7, 0.1, 0.5), bounds=([0, 0, 0.01], [1, 9, 4])
            )
            best = np.sum((power(FLOPS / 1e6, *found) - y) ** 2)
            own = np.sum((power(FLOPS / 1e6, law.a[row], law.b[row], law.c[row]) - y) ** 2)
            assert own <= best * 1.0001 + 1e-12

    def test_stays_within_its_bounds(self):
        rising = np.linspace(0.7, 0.8, 5)[None]
        flat = fit_power_law(FLOPS, rising)
        np.testing.assert_allclose([flat.b[0], flat.a[0]], [0.0, 0.75], atol=1e-12)
        steep = fit_power_law(FLOPS, 0.7 - 0.1 * np.log(FLOPS / 1e6)[None])
        assert steep.a[0] >= 0
        assert EXPONENTS[0] <= steep.c[0] * (1 + 1e-9)

    def test_refuses_two_sizes(self):
        with pytest.raises(ValueError, match="at least 3 sizes"):
            fit_power_law(np.array([1e6, 2e6]), np.ones((1, 2)))
