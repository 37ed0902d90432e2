import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.normalization import layer_norm, rms_norm
from tests import factories, oracles


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_equals_the_formula(name):
    x = 3.0 + 2.0 * factories.array(4, 3, 16)
    actual = factories.jit({"layer_norm": layer_norm, "rms_norm": rms_norm}[name])(x)
    expected = getattr(oracles, name)(np.asarray(x, np.float64))
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
@pytest.mark.parametrize("value", [0.0, 5.0])
def test_constant_rows_have_finite_values_and_gradients(norm, value):
    x = jnp.full((2, 8), value)
    value, gradient = factories.jit(jax.value_and_grad(lambda x: jnp.sum(norm(x))))(x)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_statistics_of_bfloat16_are_taken_in_float32():
    # In bfloat16 a mean over 512 ones plus 1/256 would lose the small part entirely.
    x = jnp.asarray(100.0 + np.linspace(-1, 1, 512), jnp.bfloat16)
    normed = factories.jit(layer_norm)(x)
    assert normed.dtype == jnp.bfloat16
    expected = oracles.layer_norm(np.asarray(x, np.float64))
    np.testing.assert_allclose(np.asarray(normed, np.float64), expected, rtol=2**-7, atol=1e-2)
