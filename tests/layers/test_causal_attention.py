import numpy as np
import pytest

from kunlun_jax.layers.causal_attention import causal_attention
from kunlun_jax.layers.rote import frequencies
from tests import factories, oracles_peers

T = 7
QUERY, KEY, VALUE = (factories.array(2, T, 2, 4, seed=i) for i in range(3))
POSITIONS = np.asarray([0, 0, 1, 2, 3, 4, 5], np.float32)  # two static fields


def run(window, value=VALUE):
    angles = POSITIONS[:, None] * frequencies(4, 10_000.0)
    return np.asarray(
        factories.jit(lambda *a: causal_attention(*a, angles=angles, window=window))(
            QUERY, KEY, value
        )
    )


@pytest.mark.parametrize("window", [None, 2])
def test_equals_the_formula(window):
    out, reach = run(window), T if window is None else window
    for b in range(2):
        query, key, value = (x[b].reshape(T, 8) for x in factories.float64((QUERY, KEY, VALUE)))
        query, key = (oracles_peers.rope(x, POSITIONS, 2) for x in (query, key))
        expected = oracles_peers.multi_head_softmax(
            query, key, value, 2, lambda t: [s for s in range(t + 1) if t - s <= reach]
        )
        np.testing.assert_allclose(out[b].reshape(T, 8), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("window", "last"), [(None, 6), (2, 4), (0, 2)])
def test_a_token_is_seen_by_its_window_only(window, last):
    change = np.abs(run(window, VALUE.at[:, 2].multiply(-2.0)) - run(window)).max((0, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(change), np.arange(2, last + 1))
