import jax
import numpy as np
import pytest

from kunlun_jax.layers.initializers import copy_slots, shared_projection
from tests import factories

KEYS = [jax.random.key(0), jax.random.key(1)]


def draw(initializer, key, shape):
    return np.asarray(factories.jit(lambda key: initializer(key, shape))(key))


@pytest.mark.parametrize(("out", "inputs"), [(7, 3), (2, 5), (4, 4)])
def test_copy_slots_repeats_the_inputs(out, inputs):
    weight = draw(copy_slots(0.0), KEYS[0], (out, inputs))
    x = np.arange(inputs, dtype=np.float32)
    np.testing.assert_array_equal(weight @ x, [i % inputs for i in range(out)])


def test_copy_slots_adds_noise_of_the_asked_size():
    noise = draw(copy_slots(0.5), KEYS[0], (400, 16)) - np.tile(np.eye(16), (25, 1))
    assert np.std(noise) == pytest.approx(0.5 / 4, rel=0.05)


def test_shared_projection_of_equal_widths_is_the_identity():
    np.testing.assert_array_equal(draw(shared_projection(), KEYS[0], (6, 6)), np.eye(6))


@pytest.mark.parametrize(("inputs", "out"), [(16, 48), (48, 16)])
def test_shared_projection_of_other_widths_is_orthogonal_and_the_same_for_every_key(inputs, out):
    weights = [draw(shared_projection(), key, (inputs, out)) for key in KEYS]
    np.testing.assert_array_equal(*weights)
    small = weights[0].T @ weights[0] if inputs > out else weights[0] @ weights[0].T
    np.testing.assert_allclose(small, max(1.0, out / inputs) * np.eye(16), atol=1e-5)
    # Unit variance in, unit variance out.
    x = np.random.default_rng(0).normal(size=(4000, inputs))
    assert np.std(x @ weights[0]) == pytest.approx(1.0, rel=0.05)


def test_shared_projection_adds_noise_that_depends_on_the_key():
    first, second = (draw(shared_projection(0.1), key, (16, 8)) for key in KEYS)
    assert np.std(first - second) == pytest.approx(0.1 / 4 * 2**0.5, rel=0.2)
