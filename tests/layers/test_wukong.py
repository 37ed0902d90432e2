import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.wukong import WukongExperts, merge_tokens, partition_tokens
from tests import factories, oracles

TOKENS = factories.array(3, 8, 8)


def wukong(num_outputs=8, **changes):
    return WukongExperts(factories.config(wukong=changes), num_outputs)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [("round_robin", [[0, 2, 4], [1, 3, 5]]), ("contiguous", [[0, 1, 2], [3, 4, 5]])],
)
def test_partition_deals_tokens_and_merge_puts_them_back(partition, expected):
    tokens = jnp.arange(6.0)[None, :, None] + jnp.zeros((2, 6, 3))
    parts = partition_tokens(tokens, 2, partition)
    np.testing.assert_array_equal(parts[0, :, :, 0], expected)
    np.testing.assert_array_equal(merge_tokens(parts, partition), tokens)


def test_a_full_partition_gives_every_expert_all_tokens_and_merges_by_a_sum():
    parts = partition_tokens(TOKENS, 3, "full")
    np.testing.assert_array_equal(parts, jnp.stack([TOKENS] * 3, axis=1))
    np.testing.assert_allclose(merge_tokens(parts, "full"), 3 * TOKENS, rtol=1e-6)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        ("round_robin", [[0, 3, 6], [1, 4, 0], [2, 5, 1]]),
        ("contiguous", [[0, 1, 2], [3, 4, 5], [6, 0, 1]]),
    ],
)
def test_where_experts_do_not_divide_the_tokens_the_first_are_dealt_again(partition, expected):
    tokens = jnp.arange(7.0)[None, :, None] + jnp.zeros((2, 7, 3))
    np.testing.assert_array_equal(partition_tokens(tokens, 3, partition)[0, :, :, 0], expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_experts": 1},
        {"num_experts": 2},
        {"num_experts": 4, "partition": "contiguous"},
        {"num_experts": 2, "partition": "full", "fm_fraction": 0.25},
        {"num_experts": 2, "fm_fraction": 0.0},
        {"num_experts": 2, "fm_fraction": 1.0},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(8, 8), (8, 4), (7, 8)])
def test_stacked_experts_equal_the_formula_one_by_one(changes, num_inputs, num_outputs):
    module, tokens = wukong(num_outputs, **changes), TOKENS[:, :num_inputs]
    factories.assert_formula(
        module,
        lambda p, x: oracles.interaction(p, x, num_outputs, module.model),
        tokens,
        tolerance=2e-5,
    )


def test_an_expert_sees_only_its_part():
    module = wukong(num_experts=2, partition="contiguous")
    variables = factories.drawn_variables(module, TOKENS)
    out = factories.apply(module, variables, TOKENS)
    moved = factories.apply(module, variables, TOKENS.at[:, 5].multiply(-2.0))
    np.testing.assert_array_equal(moved[:, :4], out[:, :4])
    assert np.all(np.abs(moved - out)[:, 4:].max(axis=-1) > 1e-3)


@pytest.mark.parametrize(("fraction", "missing"), [(0.0, "attentive"), (1.0, "linear")])
def test_a_branch_without_output_tokens_has_no_parameters(fraction, missing):
    shapes = jax.eval_shape(wukong(fm_fraction=fraction).init, jax.random.key(0), TOKENS)
    assert not [name for name in shapes["params"] if name.startswith(missing)]


def test_experts_start_different_and_carry_the_expert_axis():
    variables = factories.jit(wukong().init)(jax.random.key(0), TOKENS)
    for name, parameter in variables["params"].items():
        assert parameter.names[0] == "expert", name
        assert parameter.value.shape[0] == 2, name
        if not name.endswith("bias"):
            assert np.all(parameter.value[0] != parameter.value[1]), name
