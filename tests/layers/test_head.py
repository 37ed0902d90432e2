import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.head import Head
from tests import factories, oracles

TOKENS = factories.array(3, 4, 5)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_equals_the_formula(hidden):
    factories.assert_formula(Head(hidden, 2, jnp.dtype("float32")), oracles.head, TOKENS)


def test_with_context_equals_the_formula():
    head = Head((7,), 2, jnp.dtype("float32"))
    factories.assert_formula(head, oracles.head, TOKENS, factories.array(3, 2, 5))


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
