"""The activations of GDPA and their derivatives."""

import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import ACTIVATIONS
from pallas_kernels.activations import activate, activate_with_derivative
from tests.pallas_kernels import oracle

# Points off the kinks of relu, leaky_relu and hard_swish, where the derivative is not defined.
POINTS = np.linspace(-6.03, 6.04, 97)


def test_the_eight_names():
    assert set(ACTIVATIONS) == set(oracle.ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_match_the_formula(name):
    got = activate(jnp.asarray(POINTS, jnp.float32), name)
    np.testing.assert_allclose(got, oracle.ACTIVATIONS[name](POINTS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_the_finite_difference(name):
    # In the left tail act' is a difference of numbers near 1, so 5e-6 is a few units of 2^-23.
    _, got = activate_with_derivative(jnp.asarray(POINTS, jnp.float32), name)
    np.testing.assert_allclose(got, oracle.derivative(name, POINTS), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_zero_maps_to_zero_and_dtype_stays(name):
    for dtype in (jnp.float32, jnp.bfloat16):
        zeros = jnp.zeros((3,), dtype)
        assert (activate(zeros, name) == 0).all()
        assert activate(zeros, name).dtype == dtype
        assert activate_with_derivative(zeros, name)[1].dtype == dtype


def test_large_arguments_stay_finite():
    x = jnp.asarray([-1e4, 1e4], jnp.float32)
    for name in ACTIVATIONS:
        assert np.isfinite(activate_with_derivative(x, name)).all(), name


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"activation: expected one of identity.*got 'swish'"):
        activate(jnp.zeros(2), "swish")
