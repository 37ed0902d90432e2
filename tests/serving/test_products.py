"""Products in other forms are the same products, and operations beside them are kept."""

import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.serving.products import with_fast_products
from pallas_kernels.softmax_attention import softmax_attention


def assert_same(function, *arguments):
    fast = with_fast_products(jax.make_jaxpr(function)(*arguments))
    got = fast(*jax.tree.leaves(arguments))
    expected = jax.tree.leaves(function(*arguments))
    for one, other in zip(got, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    return jax.make_jaxpr(fast)(*jax.tree.leaves(arguments)).jaxpr


def products(program):
    return [e for e in program.eqns if e.primitive.name == "dot_general"]


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@st.composite
def equations(draw):
    """Draw an einsum of two operands, and the sizes of its axes."""
    shared = draw(st.sampled_from(["", "b", "bc"]))
    summed = draw(st.sampled_from(["k", "kl"]))
    free = draw(st.sampled_from(["", "m", "mn"])), draw(st.sampled_from(["", "p", "pq"]))
    left, right = ("".join(draw(st.permutations(shared + summed + axes))) for axes in free)
    out = "".join(draw(st.permutations(shared + free[0] + free[1])))
    sizes = {axis: draw(st.integers(1, 5)) for axis in sorted(set(left + right))}
    return f"{left},{right}->{out}", sizes


@hypothesis.given(equations())
@hypothesis.settings(max_examples=20)
def test_any_product(equation):
    text, sizes = equation
    operands = text.split("->")[0].split(",")
    shapes = [[sizes[axis] for axis in axes] for axes in operands]
    arrays = [drawn(shape, seed) for seed, shape in enumerate(shapes)]
    assert_same(lambda x, y: jnp.einsum(text, x, y), *arrays)


@pytest.mark.parametrize(
    ("equation", "shared", "own", "groups"),
    [
        ("pd,td->pt", (4, 3), (6, 3), 50),  # seeds by events: repeated for every candidate
        ("end,enm->emd", (2, 5, 3), (2, 5, 4), 100),  # tokens mixed by experts, likewise
        ("eio,ei->eo", (2, 30, 20), (2, 30), 2),  # one matrix an expert: candidates are rows
    ],
)
def test_candidates_end_up_where_the_library_has_them(equation, shared, own, groups):
    """The last three axes are one batch, rows, and what is contracted or columns."""
    arrays = drawn(shared), drawn((50, *own), 1)
    program = assert_same(
        jax.vmap(lambda x, y: jnp.einsum(equation, x, y), in_axes=(None, 0)), *arrays
    )
    (product,) = products(program)
    (contracted, _), batch = product.params["dimension_numbers"]
    assert (contracted, batch) == ((2,), ((0,), (0,)))
    assert product.invars[0].aval.shape[0] == groups


def test_rows_by_a_matrix_stay_as_they_are():
    program = assert_same(lambda x, w: x @ w, drawn((50, 6, 3)), drawn((3, 4)))
    (product,) = products(program)
    assert [v.aval.ndim for v in product.invars] == [3, 2]


def test_calls_are_entered():
    """What has a gradient of its own is written out, so that its products are met, too."""
    query, key, value = drawn((3, 4, 2)), drawn((3, 5, 2), 1), drawn((3, 5, 2), 2)
    bias, valid = jnp.zeros((3, 1, 5)), jnp.ones((3, 4, 1), bool)

    @jax.jit
    def attend(query, key, value):
        return jax.nn.gelu(softmax_attention(query, key, value, bias, bias[0], valid))

    program = assert_same(attend, query, key, value)
    assert len(products(program)) == 2
    assert math.isfinite(float(attend(query, key, value).sum()))
