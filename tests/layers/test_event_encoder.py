import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.event_encoder import EventEncoder
from tests import factories, oracles

BATCH = factories.batch(lengths={"buy": [10, 4, 0], "view": [7, 1, 2]}, seed=3)
TABLES = {
    v.name: factories.array(v.num_rows, 8, seed=i)
    for i, v in enumerate(factories.SCHEMA.vocabularies)
}
EMBEDDINGS = factories.embeddings(TABLES)


def encoder(name, matched=("item",), **changes):
    stream = {"buy": factories.BUY, "view": factories.VIEW}[name]
    described = factories.SCHEMA.stream_by_name[name]
    return EventEncoder(described, matched, stream, factories.config(**changes))


# The width of "buy" is the global one, that of "view" is not.
@pytest.mark.parametrize("name", ["buy", "view"])
@pytest.mark.parametrize(
    "changes",
    [{"init": "aligned"}, {"init": "random", "matched": ()}, {"rote": {"time_scale": 60.0}}],
)
def test_equals_the_formula(name, changes):
    module, events = encoder(name, **changes), BATCH.streams[name]
    variables = factories.drawn_variables(module, EMBEDDINGS, events)
    tokens = factories.apply(module, variables, EMBEDDINGS, events)
    p, tables = factories.float64((variables["params"], TABLES))
    for b, length in enumerate(events.lengths):
        expected = oracles.event_encoder(
            p,
            tables,
            [(f.vocabulary, np.asarray(events.ids[f.name][b, :length])) for f in module.events.ids],
            np.asarray(events.dense[b, :length], np.float64),
            np.asarray(events.ages[b, :length]),
            [np.asarray(events.matches[name][b, :length]) for name in module.matched],
            model=module.model,
            model_dim=module.stream.model_dim,
        )
        np.testing.assert_allclose(tokens[b, :length], expected, rtol=1e-5, atol=1e-5)


def test_only_unequal_widths_need_a_projection():
    for name, expected in (("buy", {"mlp"}), ("view", {"mlp", "projection"})):
        module = encoder(name)
        shapes = jax.eval_shape(module.init, jax.random.key(0), EMBEDDINGS, BATCH.streams[name])
        assert set(shapes["params"]) == expected


def test_garbage_in_the_padding_stays_finite_and_out_of_the_gradient():
    module, events = encoder("buy"), BATCH.streams["buy"]
    variables = factories.drawn_variables(module, EMBEDDINGS, events)
    real = jnp.arange(10) < events.lengths[:, None]
    poisoned = events.replace(
        ids=jax.tree.map(lambda x: jnp.where(real, x, 10**6), events.ids),
        dense=jnp.where(real[..., None], events.dense, jnp.nan),
        ages=jnp.where(real, events.ages, -(2**31)),
        matches=jax.tree.map(lambda x: jnp.where(real, x, True), events.matches),
    )

    def loss(variables, embeddings, events):
        tokens = module.apply(variables, embeddings, events)
        return jnp.sum(jnp.where(real[..., None], tokens, 0) ** 2)

    gradient = factories.jit(jax.grad(loss, argnums=(0, 1)))
    chex.assert_trees_all_equal(
        gradient(variables, EMBEDDINGS, poisoned),
        gradient(variables, EMBEDDINGS, events),
    )
    assert np.all(np.isfinite(factories.apply(module, variables, EMBEDDINGS, poisoned)))


def test_a_stream_without_ids_is_encoded_by_its_numbers():
    description = dataclasses.replace(factories.SCHEMA.stream_by_name["buy"], ids=())
    module = EventEncoder(description, (), factories.BUY, factories.config())
    events = BATCH.streams["buy"]
    variables = factories.drawn_variables(module, EMBEDDINGS, events)
    assert factories.apply(module, variables, EMBEDDINGS, events).shape == (3, 10, 8)
