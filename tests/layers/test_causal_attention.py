import numpy as np
import pytest

from kunlun_jax.layers.causal_attention import causal_attention
from kunlun_jax.layers.rote import frequencies
from tests import factories, oracles_peers

T = 7


def inputs(num_tokens):
    return tuple(factories.array(2, num_tokens, 2, 4, seed=i) for i in range(3))


QUERY, KEY, VALUE = inputs(T)


def positions(num_tokens):
    """Return the places of two static fields and of the events after them."""
    return np.maximum(np.arange(num_tokens, dtype=np.float32) - 1, 0)


def run(window, query=QUERY, key=KEY, value=VALUE):
    angles = positions(query.shape[1])[:, None] * frequencies(4, 10_000.0)
    return np.asarray(
        factories.jit(lambda *a: causal_attention(*a, angles=angles, window=window))(
            query, key, value
        )
    )


@pytest.mark.parametrize("num_tokens", [1, T, 150])  # 150: three blocks
@pytest.mark.parametrize("window", [None, 2, 90])
def test_equals_the_formula(num_tokens, window):
    arrays, reach = inputs(num_tokens), num_tokens if window is None else window
    out = run(window, *arrays)
    for b in range(2):
        query, key, value = (x[b].reshape(-1, 8) for x in factories.float64(arrays))
        query, key = (oracles_peers.rope(x, positions(num_tokens), 2) for x in (query, key))
        expected = oracles_peers.multi_head_softmax(
            query, key, value, 2, lambda t: [s for s in range(t + 1) if t - s <= reach]
        )
        np.testing.assert_allclose(out[b].reshape(-1, 8), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("window", "last"), [(None, 6), (2, 4), (0, 2)])
def test_a_token_is_seen_by_its_window_only(window, last):
    change = np.abs(run(window, value=VALUE.at[:, 2].multiply(-2.0)) - run(window)).max((0, 2, 3))
    np.testing.assert_array_equal(np.flatnonzero(change), np.arange(2, last + 1))
