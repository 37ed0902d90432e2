import jax
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


def test_with_context_equals_the_formula():
    context = factories.array(3, 2, 5)
    head = Head((7,), 2, jnp.dtype("float32"))
    variables = factories.drawn_variables(head, TOKENS, context)
    p = factories.float64(variables["params"])
    pairs = zip(np.asarray(TOKENS, np.float64), np.asarray(context, np.float64), strict=True)
    expected = [oracles.head(p, tokens, context) for tokens, context in pairs]
    actual = factories.apply(head, variables, TOKENS, context)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_trunk_starts_at_a_tenth_of_the_context():
    head = Head((), 1, jnp.dtype("float32"))
    context = TOKENS[:, :1]
    variables = factories.initialized(head, TOKENS, context)
    kernel = variables["params"]["mlp"]["out"]["kernel"]
    gradient = jax.grad(lambda tokens: head.apply(variables, tokens, context)[0, 0])(TOKENS)
    np.testing.assert_allclose(gradient[0].reshape(-1), 0.1 * kernel[5:, 0], rtol=1e-5)


def test_logits_are_float32_whatever_the_compute_type():
    head = Head((7,), 2, jnp.dtype("bfloat16"))
    variables = factories.drawn_variables(head, TOKENS)
    logits = factories.apply(head, variables, TOKENS.astype(jnp.bfloat16))
    assert logits.dtype == jnp.float32
    assert logits.shape == (3, 2)
