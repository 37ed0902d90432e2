import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.target_attention import TargetAttention
from tests import factories, oracles_peers

CANDIDATE, EVENTS = factories.array(4, 8), factories.array(4, 6, 8, seed=1)
LENGTHS = factories.ints(6, 3, 1, 0)
MODULES = {dims: TargetAttention(dims, jnp.dtype("float32")) for dims in ((), (5,), (5, 4))}
MODULE = MODULES[(5,)]
VARIABLES = factories.drawn_variables(MODULE, CANDIDATE, EVENTS, LENGTHS)


@pytest.mark.parametrize("dims", MODULES)
def test_equals_the_formula(dims):
    module = MODULES[dims]
    variables = factories.drawn_variables(module, CANDIDATE, EVENTS, LENGTHS)
    out = factories.apply(module, variables, CANDIDATE, EVENTS, LENGTHS)
    p, candidate, events = factories.float64((variables["params"], CANDIDATE, EVENTS))
    for b, length in enumerate(LENGTHS):
        expected = oracles_peers.target_attention(p, candidate[b], events[b, :length])
        np.testing.assert_allclose(out[b], expected, rtol=1e-5, atol=1e-5)


def test_weights_are_not_normalised():
    twice = jnp.concatenate([EVENTS[:, :3], EVENTS[:, :3]], axis=1)
    once = factories.apply(MODULE, VARIABLES, CANDIDATE, twice, factories.ints(3, 3, 3, 3))
    both = factories.apply(MODULE, VARIABLES, CANDIDATE, twice, factories.ints(6, 6, 6, 6))
    np.testing.assert_allclose(both, 2.0 * once, rtol=1e-5)
