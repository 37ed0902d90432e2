"""Sines, and the rotation of query and key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.rotation import (
    MAX_ANGLE,
    rotate,
    rotate_for_scores,
    rotation_angles,
    rotation_table,
    sin_cos,
)
from tests.pallas_kernels.contract import random_arrays


def _rotated(x, positions=None, times=None):
    frequencies = 10000.0 ** (-2.0 * np.arange(x.shape[-1] // 2) / x.shape[-1])
    frequencies = jnp.asarray(frequencies, jnp.float32)
    return rotate(
        x, *rotation_table(rotation_angles(positions, times, frequencies, frequencies, None))
    )


@pytest.mark.parametrize(
    ("bound", "error"),
    [(1.0, 3e-7), (100.0, 3e-7), (1e5, 3e-7), (1e6, 1e-5), (1e9, 1e-5), (MAX_ANGLE, 1e-5)],
)
def test_sin_cos_accuracy(bound, error):
    drawn = np.random.default_rng(0).uniform(-bound, bound, 200_001)
    x = np.concatenate([np.linspace(-bound, bound, 200_001), drawn]).astype(np.float32)
    sin, cos = jax.jit(sin_cos)(x)
    assert np.abs(sin - np.sin(x.astype(np.float64))).max() < error
    assert np.abs(cos - np.cos(x.astype(np.float64))).max() < error


def test_angles_that_float32_cannot_hold_are_not_a_number():
    x = jnp.asarray([3e9, -1e20, np.inf, np.nan], jnp.float32)
    assert np.isnan(sin_cos(x)).all()


def test_sin_cos_derivative_is_exact():
    x = jnp.linspace(-20.0, 20.0, 101)
    for index, want in ((0, jnp.cos(x)), (1, -jnp.sin(x))):
        got = jax.grad(lambda x, index=index: sin_cos(x)[index].sum())(x)
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_rotation_keeps_norms():
    x, times = random_arrays(2, (2, 9, 3, 8), (2, 9))
    positions = jnp.broadcast_to(jnp.arange(9), (2, 9))
    got = _rotated(x, positions, jnp.abs(times))
    np.testing.assert_allclose(np.linalg.norm(got, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6)


def test_rotation_is_the_identity_at_position_and_gap_zero():
    (x,) = random_arrays(3, (2, 9, 3, 8))
    np.testing.assert_array_equal(_rotated(x, jnp.zeros((2, 9)), jnp.zeros((2, 9))), x)


def test_scores_depend_on_the_difference_of_positions():
    query, key = random_arrays(4, (1, 9, 1, 8), (1, 9, 1, 8))
    positions = jnp.arange(9)[None]

    def scores(shift):
        left, right = (_rotated(x, positions + shift)[0, :, 0] for x in (query, key))
        return left @ right.T

    np.testing.assert_allclose(scores(0), scores(100), atol=1e-4)
    assert np.abs(scores(0) - query[0, :, 0] @ key[0, :, 0].T).max() > 0.1


def test_rotation_tells_timestamps_apart():
    (x,) = random_arrays(5, (1, 2, 1, 8))
    x = x.at[:, 1].set(x[:, 0])
    got = _rotated(x, None, jnp.asarray([[0.5, 0.6]]))
    assert np.abs(got[0, 0] - got[0, 1]).max() > 1e-2


def test_rotation_of_bfloat16_happens_in_float32():
    (x,) = random_arrays(6, (1, 5, 1, 8), dtype="bfloat16")
    positions = jnp.asarray([[0, 1000, 2001, 3003, 4096]])
    got = _rotated(x, positions)
    want = _rotated(x.astype(jnp.float32), positions).astype(jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got.astype(jnp.float32), want.astype(jnp.float32))


def test_no_positions_and_no_times_give_no_angles():
    assert rotation_angles(None, None, None, None, None) is None


def test_rotation_for_scores_rounds_once_and_has_the_gradients_of_the_rounded_rows():
    x, angles, cotangent = random_arrays(7, (2, 5, 3, 8), (2, 5, 4), (2, 5, 3, 8))
    table = rotation_table(angles)
    got, pull = jax.vjp(
        lambda x, angles: rotate_for_scores(x, angles, *table, 0.3), x.astype("bfloat16"), angles
    )
    dx, dangles = pull(cotangent)
    want = (0.3 * rotate(x.astype("bfloat16").astype("float32"), *table)).astype("bfloat16")
    assert (got.dtype, dx.dtype, dangles.dtype) == ("float32", "bfloat16", "float32")
    np.testing.assert_array_equal(got, want.astype("float32"))
    a, b = np.split(np.asarray(got, np.float64), 2, axis=-1)
    da, db = np.split(np.asarray(cotangent, np.float64), 2, axis=-1)
    np.testing.assert_allclose(dangles, (a * db - b * da).sum(axis=2), atol=1e-5)


def test_rotation_for_scores_differentiates_as_rotation_does():
    # In float32 nothing is rounded, and the two are the same function.
    x, angles, cotangent = random_arrays(8, (2, 5, 3, 8), (2, 5, 4), (2, 5, 3, 8))

    def loss(x, angles, rotate_rows):
        sin, cos = sin_cos(angles)
        return (cotangent * rotate_rows(x, angles, sin, cos)).sum()

    got = jax.grad(loss, argnums=(0, 1))(x, angles, lambda *a: rotate_for_scores(*a, 0.3))
    want = jax.grad(loss, argnums=(0, 1))(x, angles, lambda x, _, s, c: 0.3 * rotate(x, s, c))
    for left, right in zip(got, want, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-6)
