"""Maths of one tile: fast functions, online softmax, the arithmetic of windows."""

import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import ACTIVATIONS, tiles
from pallas_kernels.activations import activate_with_derivative
from pallas_kernels.window_attention.forward import in_window, tiles_in_reach
from tests.pallas_kernels import oracle
from tests.pallas_kernels.contract import random_arrays

POINTS = np.linspace(-8.03, 8.04, 403)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_a_kernel_match_the_formula(name):
    maths = tiles.maths_for(jnp.float32, interpret=True).activations
    value, slope = activate_with_derivative(jnp.asarray(POINTS, jnp.float32), name, maths)
    np.testing.assert_allclose(value, oracle.ACTIVATIONS[name](POINTS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, oracle.derivative(name, POINTS), rtol=1e-5, atol=5e-6)


def test_the_kernels_functions_keep_large_arguments_finite():
    x = jnp.asarray([-1e4, -90.0, 90.0, 1e4], jnp.float32)
    for dtype in (jnp.float32, jnp.bfloat16):
        maths = tiles.maths_for(dtype, interpret=True).activations
        for name in ACTIVATIONS:
            assert np.isfinite(activate_with_derivative(x, name, maths)).all(), name


def test_online_softmax_sees_its_scores_block_by_block():
    scores, values = random_arrays(0, (5, 48), (48, 8))
    scores = jnp.where(np.arange(48) < np.asarray([48, 20, 1, 0, 33])[:, None], 30 * scores, -1e30)
    maths = tiles.maths_for(jnp.float32, interpret=True)
    softmax = tiles.OnlineSoftmax.empty(5, 8)
    for start in (16, 0, 32):
        block = slice(start, start + 16)
        softmax = softmax.add(4.0 * scores[:, block], 0.25, values[block], maths)
    out, lse = softmax.result()
    weights = np.where(scores > -1e29, 2.0 ** np.asarray(scores, np.float64), 0.0)
    mass = weights.sum(axis=1)
    want = weights @ np.asarray(values, np.float64) / np.where(mass > 0, mass, 1.0)[:, None]
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)
    assert (out[3] == 0).all()
    np.testing.assert_allclose(lse[mass > 0], np.log2(mass[mass > 0]), rtol=1e-6)
    assert lse[3] > tiles.MASKED / 2 * 1.01
    assert lse[3] < -1e29


@pytest.mark.parametrize("window", [0, 1, 7, 40, 200])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 64])
def test_windows_by_tiles_are_windows_by_pairs(window, length):
    positions = np.arange(64)
    near = np.abs(positions[:, None] - positions) <= window
    want = near & (positions[:, None] < length) & (positions < length)
    indices = jnp.arange(64)
    np.testing.assert_array_equal(in_window(indices, indices, window, length), want)
    for start in range(0, 64, 16):
        first, last = tiles_in_reach(jnp.asarray(start), 16, 32, window, length)
        reached = np.zeros(64, bool)
        reached[32 * int(first) : 32 * int(last)] = True
        needed = want[start : start + 16].any(axis=0)
        assert not (needed & ~reached).any()
        if needed.any():  # and no tile more
            assert 32 * int(first) <= np.flatnonzero(needed)[0] < 32 * int(first) + 32
            assert 32 * int(last) - 32 <= np.flatnonzero(needed)[-1] < 32 * int(last)
        else:
            assert first == last


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("head_dim", [6, 16, 100, 256])
def test_padding_of_the_head_dim_changes_no_product(head_dim, halves):
    a, b = random_arrays(1, (3, head_dim), (3, head_dim))
    wide = [tiles.pad_head_dim(x, halves=halves) for x in (a, b)]
    size = wide[0].shape[-1]
    assert size & (size - 1) == 0
    np.testing.assert_allclose(jnp.sum(wide[0] * wide[1], -1), jnp.sum(a * b, -1), rtol=1e-5)
    np.testing.assert_array_equal(tiles.unpad_head_dim(wide[0], head_dim, halves=halves), a)
