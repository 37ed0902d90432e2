import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.data.schema import Vocabulary
from kunlun_jax.layers.embedding import Embedding, EmbeddingTables, combine
from tests import factories

FLOAT32 = jnp.dtype("float32")
SCHEMA = factories.SCHEMA


class TestCombine:
    ROWS = factories.array(4, 3, 2)
    LENGTHS = factories.ints(3, 2, 1, 0)

    @pytest.mark.parametrize("combiner", ["mean", "sum"])
    def test_equals_the_formula(self, combiner):
        rows = np.asarray(self.ROWS, np.float64)
        expected = [
            rows[b, :n].sum(axis=0) / (n if combiner == "mean" else 1)
            for b, n in enumerate([3, 2, 1])
        ]
        actual = combine(self.ROWS, self.LENGTHS, combiner)
        np.testing.assert_allclose(actual[:3], expected, rtol=1e-6)
        np.testing.assert_array_equal(actual[3], 0.0)

    def test_nan_behind_the_length_reaches_neither_value_nor_gradient(self):
        real = (jnp.arange(3) < self.LENGTHS[:, None])[..., None]
        poisoned = jnp.where(real, self.ROWS, jnp.nan)
        gradient = jax.grad(lambda x: jnp.sum(combine(x, self.LENGTHS, "mean")))(poisoned)
        assert np.all(np.isfinite(combine(poisoned, self.LENGTHS, "mean")))
        np.testing.assert_array_equal(np.where(real, 0, gradient), 0.0)


def test_tables_have_a_row_per_id_and_one_for_what_is_unknown():
    module = EmbeddingTables(SCHEMA, 64, 0.2)
    variables = factories.jit(module.init)(jax.random.key(0))
    assert set(variables) == {"tables"}
    for vocabulary in SCHEMA.vocabularies:
        table = variables["tables"][vocabulary.name]
        assert table.names == ("vocab", "embed")
        assert table.value.shape == (vocabulary.num_ids + 1, 64)
        assert np.std(table.value[1:]) == pytest.approx(0.2, rel=0.15)
        np.testing.assert_array_equal(table.value[0], 0.0)  # of what is not known
    embeddings = module.apply(nn.meta.unbox(variables))
    np.testing.assert_array_equal(embeddings["tag"].table, variables["tables"]["tag"].value)
    assert embeddings["tag"].projection is None


class TestWidths:
    MODULE = EmbeddingTables(SCHEMA, 8, 0.2, (("brand", 3), ("tag", 8)))

    def test_another_width_is_projected_by_one_map(self):
        variables = factories.initialized(self.MODULE)
        assert jax.tree.map(jnp.shape, variables["params"]) == {"brand_projection": (3, 8)}
        shapes = {name: table.shape for name, table in variables["tables"].items()}
        assert shapes == {"item": (301, 8), "brand": (5, 3), "tag": (7, 8)}
        embeddings = self.MODULE.apply(variables)
        ids = factories.ints(4, 1, 99)
        expected = np.asarray(variables["tables"]["brand"], np.float64)[[4, 1, 0]] @ np.asarray(
            variables["params"]["brand_projection"], np.float64
        )
        np.testing.assert_allclose(embeddings["brand"](ids, FLOAT32), expected, rtol=1e-5)

    def test_the_projection_keeps_inner_products_at_the_start(self):
        projection = factories.initialized(self.MODULE)["params"]["brand_projection"]
        gram = np.asarray(projection @ projection.T)
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(3), atol=1e-5)


def test_double_hashing_sums_the_rows_of_both_ids():
    table = factories.array(6, 4)
    embed = Embedding(table, None, Vocabulary("url", 5, hashes=2))
    ids = jnp.asarray([[[1, 5], [2, 2]], [[0, 0], [9, 3]]], jnp.int32)
    rows = np.asarray(table)
    expected = [[rows[1] + rows[5], 2 * rows[2]], [2 * rows[0], rows[0] + rows[3]]]
    np.testing.assert_allclose(embed(ids, FLOAT32), expected, rtol=1e-6)
