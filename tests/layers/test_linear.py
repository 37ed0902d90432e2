from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.layers.linear import MLP, DenseToParts, product
from tests import factories, oracles

FLOAT32 = jnp.dtype("float32")


class PlainLayer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(7, name="hidden_0")(x)


def test_mlp_equals_the_formula():
    factories.assert_formula(MLP((7, 6, 2), FLOAT32), oracles.mlp, factories.array(3, 5, 4))


def test_mlp_without_hidden_layers_is_linear():
    x = factories.array(3, 4)
    variables = factories.drawn_variables(MLP((2,), FLOAT32), x)
    out = variables["params"]["out"]
    expected = np.asarray(x) @ np.asarray(out["kernel"]) + np.asarray(out["bias"])
    actual = factories.apply(MLP((2,), FLOAT32), variables, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_out_scale_scales_the_initial_output_kernel_only():
    x = factories.array(2, 64)
    kernels = [
        factories.initialized(MLP((64, 64), FLOAT32, out_scale=scale), x)["params"]
        for scale in (1.0, 0.3)
    ]
    np.testing.assert_allclose(
        kernels[1]["out"]["kernel"], 0.3 * kernels[0]["out"]["kernel"], rtol=1e-5
    )
    np.testing.assert_array_equal(
        kernels[0]["hidden_0"]["kernel"], kernels[1]["hidden_0"]["kernel"]
    )


def test_parts_are_the_input_end_to_end():
    """With the parameters that a plain layer of Flax would start with."""
    x = factories.array(3, 5, 6)
    mlp = MLP((7, 2), FLOAT32)
    parts = x[..., :2], x[..., 2:3], x[..., 3:]
    variables = factories.initialized(mlp, *parts)
    jax.tree.map(np.testing.assert_array_equal, variables, factories.initialized(mlp, x))
    np.testing.assert_allclose(
        factories.apply(mlp, variables, *parts), factories.apply(mlp, variables, x), atol=1e-6
    )
    plain = factories.initialized(PlainLayer(), x)["params"]["hidden_0"]
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["hidden_0"], plain)


def test_to_parts_is_one_product_split():
    """With the parameter that one layer of Flax, as wide as all parts, would start with."""
    x = factories.array(3, 5, 6)
    layer = DenseToParts(2, 7, (None, None), FLOAT32)
    variables = factories.initialized(layer, x)
    plain = nn.Dense(14, use_bias=False)
    jax.tree.map(np.testing.assert_array_equal, variables, factories.initialized(plain, x))
    parts = factories.apply(layer, variables, x)
    whole = factories.apply(plain, variables, x)
    assert [part.shape for part in parts] == [(3, 5, 7)] * 2
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), whole, rtol=1e-6, atol=1e-6)


def test_product_is_one_with_gradients_of_its_own():
    rows, kernel, cotangent = factories.array(9, 4), factories.array(4, 3), factories.array(9, 3)
    out, pull = jax.vjp(product, rows, kernel)
    expected, plain = jax.vjp(jnp.matmul, rows, kernel)
    np.testing.assert_array_equal(out, expected)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), pull(cotangent), plain(cotangent))
    kernels = [str(jax.make_jaxpr(lambda c, f=f: f(c)[1])(cotangent)) for f in (pull, plain)]
    assert ":f32[4,3] = dot_general" in kernels[0]
    assert ":f32[3,4] = dot_general" in kernels[1]  # across, and turned: why there is a rule
