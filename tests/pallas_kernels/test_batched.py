"""Masks, heads, products and windows of the references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.batched import (
    length_mask,
    merge_heads,
    split_heads,
    transposed_weights_by_rows,
    zero_padding,
)
from pallas_kernels.window_attention.blocks import gather_windows
from tests.pallas_kernels.contract import random_arrays


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
