"""Every peer: equal to its formulas, deaf to padding, alive in every parameter, able to learn."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import validate_model
from kunlun_jax.flops import flops_by_module
from kunlun_jax.training.step import weighted_loss
from tests import factories, oracles_peers
from tests.models.test_gradients import used_rows
from tests.models.test_invariances import padded, poisoned
from tests.models.variants import PEERS

SIZE = 16
NUM_CONTEXT = factories.NUM_CONTEXT_TOKENS
# Full, short and empty histories; in the last example both are empty.
LENGTHS = {"buy": [10, 4, 0, 1] * 3 + [10, 7, 3, 0], "view": [7, 1, 2, 0] * 3 + [7, 4, 2, 0]}
BATCH = factories.batch(lengths=LENGTHS, seed=1)
VARIABLES = {
    name: factories.drawn_variables(factories.recommender(model), BATCH)
    for name, model in PEERS.items()
}
every_peer = pytest.mark.parametrize("name", PEERS)


def logits(name, batch, variables=None):
    model = factories.recommender(PEERS[name])
    return np.asarray(factories.apply(model, variables or VARIABLES[name], batch))


def gradient(name, batch, variables=None):
    function = factories.loss_gradient(factories.recommender(PEERS[name]))
    return function(variables or VARIABLES[name], batch)


@every_peer
def test_logits_equal_the_formulas(name):
    model, variables = PEERS[name], VARIABLES[name]
    validate_model(model)
    params, tables = factories.float64((variables["params"], variables["tables"]["embedding"]))
    examples = [0, 1, 2, 3, SIZE - 1]
    expected = [
        oracles_peers.logits(params, tables, model, factories.SCHEMA, BATCH, b) for b in examples
    ]
    np.testing.assert_allclose(logits(name, BATCH)[examples], expected, rtol=2e-4, atol=2e-4)


@every_peer
def test_a_head_of_the_trunk_alone_equals_the_formulas_and_its_flops(name):
    model = dataclasses.replace(PEERS[name], head_context=False)
    recommender = factories.recommender(model)
    variables = factories.drawn_variables(recommender, BATCH)
    params, tables = factories.float64((variables["params"], variables["tables"]["embedding"]))
    expected = [
        oracles_peers.logits(params, tables, model, factories.SCHEMA, BATCH, b) for b in range(4)
    ]
    out = np.asarray(factories.apply(recommender, variables, BATCH))[:4]
    np.testing.assert_allclose(out, expected, rtol=2e-4, atol=2e-4)
    kernels = [layer["kernel"] for layer in params["head"]["mlp"].values()]
    head = flops_by_module(model, factories.SCHEMA)["head"]
    assert head == sum(2 * kernel.size for kernel in kernels)


@every_peer
def test_padding_is_not_read(name):
    clean = logits(name, BATCH)
    assert np.all(np.isfinite(clean))
    np.testing.assert_array_equal(logits(name, poisoned(BATCH)), clean)
    longer = poisoned(padded(BATCH, 5))
    np.testing.assert_allclose(logits(name, longer), clean, rtol=1e-5, atol=1e-5)


@every_peer
def test_every_parameter_and_every_used_row_gets_a_gradient_and_padding_none(name):
    clean = gradient(name, BATCH)
    for path, leaf in jax.tree_util.tree_leaves_with_path(clean["params"]):
        assert np.all(np.isfinite(leaf) & (leaf != 0)), jax.tree_util.keystr(path)
    used = used_rows(BATCH, PEERS[name])
    for vocabulary, leaf in clean["tables"]["embedding"].items():
        touched = np.any(np.asarray(leaf) != 0, axis=1)
        np.testing.assert_array_equal(touched, used[vocabulary], err_msg=vocabulary)
    chex.assert_trees_all_equal(gradient(name, poisoned(BATCH)), clean)


def favourites(step):
    """Return a batch in which a click means: the candidate is what the user has always bought."""
    rng = np.random.default_rng(step)
    favourite, candidate = rng.integers(1, 4, (2, SIZE, 1)).astype(np.int32)
    item = BATCH.sparse["item"].replace(ids=jnp.asarray(candidate))
    buy = BATCH.streams["buy"]
    same = np.broadcast_to(favourite == candidate, buy.ages.shape)
    buy = buy.replace(
        ids={**buy.ids, "item": jnp.asarray(np.broadcast_to(favourite, buy.ages.shape))},
        lengths=jnp.full(SIZE, 10, jnp.int32),
        matches={**buy.matches, "item": jnp.asarray(same)},
    )
    labels = jnp.asarray(np.repeat(candidate == favourite, 2, axis=1).astype(np.float32))
    return BATCH.replace(
        sparse={**BATCH.sparse, "item": item},
        streams={**BATCH.streams, "buy": buy},
        labels=labels,
    )


def mean_loss(name, variables):
    batches = [favourites(1000 + i) for i in range(8)]  # not among the training steps
    losses = [weighted_loss(jnp.asarray(logits(name, b, variables)), b) for b in batches]
    return float(np.mean(losses))


@every_peer
def test_learns_what_a_user_buys(name):
    variables = jax.tree.map(np.asarray, VARIABLES[name])
    first = second = jax.tree.map(np.zeros_like, variables)
    before = mean_loss(name, variables)
    for step in range(1, 121):
        g = gradient(name, favourites(step), variables)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * np.asarray(g), first, g)
        second = jax.tree.map(lambda v, g: 0.98 * v + 0.02 * np.asarray(g) ** 2, second, g)
        # It falls to 0: at a constant rate some processors' rounding ended far off.
        rate = 0.02 * (1 - step / 121) * np.sqrt(1 - 0.98**step) / (1 - 0.9**step)
        variables = jax.tree.map(
            lambda x, m, v, rate=rate: (x - rate * m / (np.sqrt(v) + 1e-8)).astype(np.float32),
            variables,
            first,
            second,
        )
    after = mean_loss(name, variables)
    # The mean label, a third, would give 0.64.
    assert after < 0.6 * min(before, 0.64), (before, after)


@every_peer
def test_bfloat16_stays_close_to_float32(name):
    narrow = factories.recommender(dataclasses.replace(PEERS[name], dtype="bfloat16"))
    out = np.asarray(factories.apply(narrow, VARIABLES[name], BATCH))
    expected = logits(name, BATCH)
    assert out.dtype == np.float32
    assert not np.array_equal(out, expected)
    np.testing.assert_allclose(out, expected, atol=0.2)


@every_peer
def test_every_parameter_carries_a_logical_name_per_axis(name):
    model = factories.recommender(PEERS[name])
    variables = jax.eval_shape(model.init, jax.random.key(0), BATCH)
    factories.assert_named_axes(variables)


def wukong_parameters(n, out, *, rank=2, hidden=6, dim=8):
    num_fm = out // 2
    machine = (n * rank + 1) * hidden + (hidden + 1) * num_fm * dim
    attentive = n * rank + (rank * dim + 1) * hidden + (hidden + 1) * n * rank
    return attentive + machine + n * (out - num_fm) + n * out


D, CLS = 8, 3
DENSE = 3 * D + D
TABLES = (12 + 5) * D  # two tables of widths of their own
# Two ids, their matches and two numbers, or one of each, and the age; hidden 8 and 6.
ENCODERS = {"buy": (2 * (D + 1) + 3 + 1) * 8 + 9 * D, "view": (D + 1 + 2 + 1) * 6 + 7 * D}
GATE = D * D + D
PMA = 2 * D + D * D + D * 2 * D + D * D
SUMMARIES = CLS * NUM_CONTEXT + GATE + PMA + GATE
INTERFORMER = SUMMARIES + wukong_parameters(NUM_CONTEXT + CLS + 4, 5) + (D * D + CLS * D) + 4 * D**2
HSTU = 5 * D**2 + (NUM_CONTEXT + 17) + 2
TOKENFORMER = 5 * D**2 + 3 * D * 6
UNIDOT_STREAM = (D * 12 + D * 6 + 6 + 6 * D) + 4 * D**2  # gates, window
UNIDOT_LAYER = (
    NUM_CONTEXT
    + 2 * ((2 * D + 1) * 5 + 6 * 3 + 4 * D**2)  # pooling and attention of two streams
    + wukong_parameters(NUM_CONTEXT + 6, NUM_CONTEXT)
    + 2 * 4 + (2 * D + 1) * 6 + 7 * D  # what was found, into the items
    + 7 * 7 + D * 12 + 6 * D
)  # fmt: skip
UNIDOT = 2 * 3 + NUM_CONTEXT + 2 * UNIDOT_STREAM + 2 * UNIDOT_LAYER + CLS * 7
UNIDOT_ROWS = 4  # of 6 + 2 * (2 * 4 + 2 * 2) dots
TRUNKS = {
    "wukong": (wukong_parameters(NUM_CONTEXT + 2, 6) + wukong_parameters(6, 6), 6),
    "interformer": (2 * D + 2 * INTERFORMER + SUMMARIES, 2 * CLS + 4),
    "din": (2 * ((4 * D + 1) * 6 + 7), 2),
    "hstu": (2 * D + 2 * HSTU, NUM_CONTEXT),
    "tokenformer": (2 * D + 3 * TOKENFORMER, NUM_CONTEXT),
    "unidot": (UNIDOT, CLS + UNIDOT_ROWS),
}


@every_peer
def test_parameter_count(name):
    trunk, num_tokens = TRUNKS[name]
    head = D + ((NUM_CONTEXT + num_tokens) * D + 1) * 6 + 7 * 2
    count = sum(leaf.size for leaf in jax.tree.leaves(VARIABLES[name]["params"]))
    assert count == DENSE + TABLES + sum(ENCODERS.values()) + trunk + head


@pytest.mark.parametrize("name", ["din", "hstu"])
def test_one_feature_and_one_stream_are_enough(name):
    schema = dataclasses.replace(
        factories.SCHEMA, dense=(), sparse=factories.SCHEMA.sparse[:1], candidate=()
    )
    model = dataclasses.replace(PEERS[name], streams=PEERS[name].streams[:1], use_dense=False)
    module = type(factories.recommender(model))(model, schema)
    variables = factories.drawn_variables(module, BATCH)
    assert np.all(np.isfinite(factories.apply(module, variables, BATCH)))
