import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.context import ContextTokens, num_context_tokens
from tests import factories, oracles

FLOAT32 = jnp.dtype("float32")
TABLES = {
    v.name: factories.array(v.num_rows, 8, seed=i)
    for i, v in enumerate(factories.SCHEMA.vocabularies)
}
EMBEDDINGS = factories.embeddings(TABLES)
BATCH = factories.batch(size=4)
SCHEMAS = {
    "all": factories.SCHEMA,
    "no_candidate": dataclasses.replace(factories.SCHEMA, candidate=()),
    "no_dense": dataclasses.replace(factories.SCHEMA, dense=()),
    "shared_vocabulary": dataclasses.replace(
        factories.SCHEMA,
        sparse=tuple(
            dataclasses.replace(feature, vocabulary="item") if feature.name == "tags" else feature
            for feature in factories.SCHEMA.sparse
        ),
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_equals_the_formula(name):
    schema = SCHEMAS[name]
    module = ContextTokens(schema, 8, FLOAT32)
    variables = factories.drawn_variables(module, EMBEDDINGS, BATCH)
    tokens = factories.apply(module, variables, EMBEDDINGS, BATCH)
    assert tokens.shape == (4, num_context_tokens(schema), 8)
    p, tables = factories.float64((variables.get("params", {}), TABLES))
    for b in range(4):
        sparse = {k: np.asarray(v.ids[b, : v.lengths[b]]) for k, v in BATCH.sparse.items()}
        dense = np.asarray(BATCH.dense[b], np.float64)
        expected = oracles.context_tokens(p, tables, schema, dense, sparse)
        np.testing.assert_allclose(tokens[b], expected, rtol=1e-5, atol=1e-5)


def test_the_candidate_comes_first_and_is_the_sum_of_its_features():
    module = ContextTokens(factories.SCHEMA, 8, FLOAT32)
    variables = factories.drawn_variables(module, EMBEDDINGS, BATCH)
    tokens = factories.apply(module, variables, EMBEDDINGS, BATCH)
    item, brand = (
        np.asarray(TABLES[name])[np.asarray(BATCH.sparse[name].ids[:, 0])]
        for name in ("item", "brand")
    )
    np.testing.assert_allclose(tokens[:, 0], item + brand, rtol=1e-6)


def test_values_behind_the_true_count_are_not_read():
    module = ContextTokens(factories.SCHEMA, 8, FLOAT32)
    variables = factories.drawn_variables(module, EMBEDDINGS, BATCH)
    tags = BATCH.sparse["tags"]
    garbage = jnp.where(jnp.arange(3) < tags.lengths[:, None], tags.ids, -7)
    other = BATCH.replace(sparse={**BATCH.sparse, "tags": tags.replace(ids=garbage)})
    np.testing.assert_array_equal(
        factories.apply(module, variables, EMBEDDINGS, other),
        factories.apply(module, variables, EMBEDDINGS, BATCH),
    )


def test_no_value_gives_zeros_and_a_zero_gradient():
    empty = BATCH.sparse["tags"].replace(lengths=jnp.zeros(4, jnp.int32))
    batch = BATCH.replace(sparse={**BATCH.sparse, "tags": empty})
    module = ContextTokens(factories.SCHEMA, 8, FLOAT32)
    variables = factories.drawn_variables(module, EMBEDDINGS, batch)
    np.testing.assert_array_equal(factories.apply(module, variables, EMBEDDINGS, batch)[:, -1], 0.0)
    gradient = factories.jit(
        jax.grad(lambda tables: jnp.sum(module.apply(variables, tables, batch)[:, -1] ** 2))
    )(EMBEDDINGS)
    np.testing.assert_array_equal(gradient["tag"].table, 0.0)


def test_features_of_one_vocabulary_are_looked_up_at_once():
    module = ContextTokens(SCHEMAS["shared_vocabulary"], 8, FLOAT32)
    variables = factories.drawn_variables(module, EMBEDDINGS, BATCH)
    traced = str(jax.make_jaxpr(module.apply)(variables, EMBEDDINGS, BATCH))
    assert traced.count("= gather[") == 2  # of item, brand and tags
