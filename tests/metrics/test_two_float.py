import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.metrics import two_float


def test_sum_keeps_what_float32_loses():
    values = np.asarray([2.0**24, 1.0, 2.0**-10, -(2.0**24), 1.0], np.float32)
    total = jax.jit(two_float.sum_last)(jnp.asarray(values))
    assert float(jnp.sum(jnp.asarray(values[:2]))) == 2.0**24
    assert two_float.value(total) == 2.0 + 2.0**-10


@pytest.mark.parametrize("size", [1, 2, 1000, 4097])
def test_sum_agrees_with_float64(size):
    values = np.random.default_rng(0).lognormal(0, 3, (3, size)).astype(np.float32)
    total = two_float.value(jax.jit(two_float.sum_last)(jnp.asarray(values)))
    np.testing.assert_allclose(total, values.sum(-1, dtype=np.float64), rtol=1e-13)


def test_sum_over_nothing_is_zero():
    assert two_float.value(two_float.sum_last(jnp.zeros((2, 0)))).tolist() == [0.0, 0.0]


def test_parts_do_not_overlap():
    """The high part is the float32 nearest to the sum."""
    values = jnp.asarray(np.random.default_rng(1).random(999), jnp.float32)
    total = two_float.sum_last(values)
    assert np.float32(two_float.value(total)) == total.high


def test_add_under_jit_is_exact():
    """An algebraic simplification of (a + b) - a would lose the small number."""
    big, small = (two_float.from_float32(jnp.float32(x)) for x in (2.0**30, 2.0**-10))
    total = jax.jit(two_float.add)(big, small)
    assert two_float.value(total) == 2.0**30 + 2.0**-10
