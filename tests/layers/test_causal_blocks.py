import numpy as np
import pytest

from kunlun_jax.layers.causal_blocks import causal_blocks


@pytest.mark.parametrize("num_tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("window", [None, 0, 16, 64, 100])
def test_blocks_hold_every_pair_once(num_tokens, window):
    reach = num_tokens if window is None else window
    times_seen, queries = np.zeros((num_tokens, num_tokens), int), []
    for block in causal_blocks(num_tokens, window):
        assert block.distance.shape == times_seen[block.queries, block.keys].shape
        times_seen[block.queries, block.keys] += block.seen
        queries += range(num_tokens)[block.queries]
    places = np.arange(num_tokens)
    distance = places[:, None] - places
    np.testing.assert_array_equal(times_seen, (distance >= 0) & (distance <= reach))
    assert queries == list(range(num_tokens))


@pytest.mark.parametrize(("window", "most"), [(None, 1.4), (16, 4.5)])
def test_few_masked_pairs_are_computed(window, most):
    blocks = list(causal_blocks(174, window))
    computed = sum(block.seen.size for block in blocks)
    assert computed <= most * sum(block.seen.sum() for block in blocks)
