import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.head import Head
from tests import factories, oracles

TOKENS = factories.array(3, 4, 5)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_equals_the_formula(hidden):
    head = Head(hidden, 2, jnp.dtype("float32"))
    variables = factories.drawn_variables(head, TOKENS)
    p = factories.float64(variables["params"])
    expected = [oracles.head(p, x) for x in np.asarray(TOKENS, np.float64)]
    actual = factories.apply(head, variables, TOKENS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_logits_are_float32_whatever_the_compute_type():
    head = Head((7,), 2, jnp.dtype("bfloat16"))
    variables = factories.drawn_variables(head, TOKENS)
    logits = factories.apply(head, variables, TOKENS.astype(jnp.bfloat16))
    assert logits.dtype == jnp.float32
    assert logits.shape == (3, 2)
