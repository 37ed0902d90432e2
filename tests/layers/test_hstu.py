import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import HSTUConfig
from kunlun_jax.layers.causal_blocks import causal_blocks
from kunlun_jax.layers.hstu import HSTUBlock, RelativeBias
from tests import factories, oracles_peers

T = 6
TOKENS = factories.array(2, T, 8)
# Gaps on both sides of bucket bounds: with 16 buckets they are 4^k - 1 seconds.
AGES = jnp.asarray([[10**6, 70_000, 4_463, 368, 353, 350], [63, 62, 60, 45, 0, 0]], jnp.int32)


def block(num_heads=2, max_len=9, buckets=16):
    return HSTUBlock(HSTUConfig(num_heads, buckets), max_len, jnp.dtype("float32"))


VARIABLES = factories.drawn_variables(block(), TOKENS, AGES)


def run(module, tokens=TOKENS, variables=VARIABLES):
    return np.asarray(factories.apply(module, variables, tokens, AGES))


@pytest.mark.parametrize("num_heads", [1, 2])
def test_equals_the_formula(num_heads):
    out = run(block(num_heads))
    p, tokens, ages = factories.float64((VARIABLES["params"], TOKENS, AGES))
    for b in range(2):
        expected = oracles_peers.hstu_block(p, tokens[b], ages[b], num_heads, 9)
        np.testing.assert_allclose(out[b], expected, rtol=2e-5, atol=2e-5)


def test_equals_the_formula_over_several_blocks():
    length = 150
    tokens = factories.array(1, length, 8)
    ages = jnp.asarray(np.geomspace(10**7, 1, length).astype(np.int32))[None]
    module = block(max_len=length)
    variables = factories.drawn_variables(module, tokens, ages)
    out = factories.apply(module, variables, tokens, ages)
    p = factories.float64(variables["params"])
    expected = oracles_peers.hstu_block(p, *factories.float64((tokens[0], ages[0])), 2, length)
    np.testing.assert_allclose(out[0], expected, rtol=2e-5, atol=2e-5)


def test_weights_are_divided_by_the_longest_length():
    # The norm that follows takes the factor out again, all but for its epsilon.
    shorter, longer = block(max_len=9), block(max_len=4 * 9)
    p = {**VARIABLES["params"], "bias": {**VARIABLES["params"]["bias"]}}
    p["bias"]["position"] = jnp.concatenate([p["bias"]["position"], jnp.zeros(27)])
    expected = oracles_peers.hstu_block(
        factories.float64(p), *(factories.float64((TOKENS[0], AGES[0]))), 2, 36
    )
    np.testing.assert_allclose(run(longer, variables={"params": p})[0], expected, rtol=2e-5)
    assert np.abs(expected - run(shorter)[0]).max() > 1e-5


@pytest.mark.parametrize("buckets", [2, 16, 40])
@pytest.mark.parametrize("num_positions", [3, 9])
def test_relative_bias_equals_the_formula(buckets, num_positions):
    module = RelativeBias(num_positions, buckets)
    (whole,) = causal_blocks(T)
    of_block = factories.drawn_variables(
        block(max_len=num_positions, buckets=buckets), TOKENS, AGES
    )
    variables = {"params": of_block["params"]["bias"]}
    bias = factories.jit(lambda ages: module.apply(variables, ages, whole))(AGES)
    p, ages = factories.float64((variables["params"], AGES))
    for b in range(2):
        for t in range(T):
            for s in range(t + 1):
                expected = oracles_peers.relative_bias(p, ages[b], t, s)
                np.testing.assert_allclose(bias[b, t, s], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("moved", [0, 3, 5])
def test_a_token_sees_what_came_before_it(moved):
    change = np.abs(run(block(), TOKENS.at[:, moved].multiply(-2.0)) - run(block())).max((0, 2))
    np.testing.assert_array_equal(change[:moved], 0.0)
    assert np.all(change[moved:] > 1e-5)
