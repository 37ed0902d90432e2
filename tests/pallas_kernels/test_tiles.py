"""Masks, products, sines and rotation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.tiles import (
    length_mask,
    merge_heads,
    rotate,
    rotation_angles,
    rotation_table,
    sin_cos,
    split_heads,
    transposed_weights_by_rows,
    zero_padding,
)
from pallas_kernels.window_attention.blocks import gather_windows
from tests.pallas_kernels.contract import random_arrays


def _rotated(x, positions=None, times=None):
    frequencies = 10000.0 ** (-2.0 * np.arange(x.shape[-1] // 2) / x.shape[-1])
    frequencies = jnp.asarray(frequencies, jnp.float32)
    return rotate(
        x, *rotation_table(rotation_angles(positions, times, frequencies, frequencies, None))
    )


def test_length_mask():
    got = length_mask(jnp.asarray([0, 2, 9]), 3)
    np.testing.assert_array_equal(got, [[0, 0, 0], [1, 1, 0], [1, 1, 1]])


def test_zero_padding_keeps_nan_out_of_value_and_gradient():
    x = jnp.full((2, 3, 1, 2), jnp.nan).at[:, :2].set(1.0)
    lengths = jnp.asarray([2, 0])
    value, gradient = jax.value_and_grad(lambda x: (zero_padding(x, lengths) ** 2).sum())(x)
    assert value == 4.0
    np.testing.assert_array_equal(gradient[0, 2], 0.0)
    np.testing.assert_array_equal(gradient[1], 0.0)
    assert zero_padding(x, None) is x


def test_heads_merge_and_split():
    (x,) = random_arrays(0, (2, 5, 3, 4))
    np.testing.assert_array_equal(merge_heads(x)[4], x[1, :, 1])
    np.testing.assert_array_equal(split_heads(merge_heads(x), 3), x)


@pytest.mark.parametrize("head_dim", [8, 32])
def test_transposed_product(head_dim):
    weights, rows = random_arrays(1, (3, 6, 5), (3, 6, head_dim))
    want = np.einsum("gms,gmh->gsh", *(np.asarray(x, np.float64) for x in (weights, rows)))
    np.testing.assert_allclose(transposed_weights_by_rows(weights, rows), want, atol=1e-5)


@pytest.mark.parametrize("bound", [1.0, 100.0, 1e5])
def test_sin_cos_accuracy(bound):
    x = np.linspace(-bound, bound, 200_001).astype(np.float32)
    sin, cos = jax.jit(sin_cos)(x)
    assert np.abs(sin - np.sin(x.astype(np.float64))).max() < 3e-7
    assert np.abs(cos - np.cos(x.astype(np.float64))).max() < 3e-7


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


@pytest.mark.parametrize(("time", "halo"), [(13, 0), (13, 2), (16, 4), (13, 5), (21, 11), (9, 30)])
def test_windows_and_their_gradient(time, halo):
    block = 4
    blocks = -(-time // block)
    rows = (np.arange(blocks)[:, None] * block + np.arange(-halo, block + halo)).reshape(-1)
    inside = (rows >= 0) & (rows < time)
    x, cotangent = random_arrays(7, (2, time, 3), (2, len(rows), 3))
    cotangent = jnp.where(inside[:, None], cotangent, 0.0)
    got, pull = jax.vjp(lambda x: gather_windows(x, block, halo), x)
    np.testing.assert_array_equal(got[:, inside], np.asarray(x)[:, rows[inside]])
    want = np.zeros(x.shape)
    np.add.at(want, (slice(None), rows[inside]), np.asarray(cotangent, np.float64)[:, inside])
    np.testing.assert_allclose(pull(cotangent)[0], want, atol=1e-5)
