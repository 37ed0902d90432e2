import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.data.schema import Vocabulary
from kunlun_jax.layers.embedding import (
    Embedding,
    EmbeddingTables,
    combine,
    compact_tables,
    count_out_of_vocabulary,
    lookup,
)
from kunlun_jax.layers.table_layout import stored_rows
from tests import factories

FLOAT32 = jnp.dtype("float32")
LARGE = 20_000  # rows of a table that is stored in lanes
SCHEMA = factories.SCHEMA
BATCH = factories.batch(lengths={"buy": [10, 4, 0], "view": [7, 1, 2]})
TABLES = {v.name: factories.array(v.num_rows, 4, seed=i) for i, v in enumerate(SCHEMA.vocabularies)}


def replace_ids(batch, stream, name, ids):
    events = batch.streams[stream]
    events = events.replace(ids={**events.ids, name: jnp.asarray(ids, jnp.int32)})
    return batch.replace(streams={**batch.streams, stream: events})


class TestLookup:
    @pytest.mark.parametrize("bad", [-1, -(2**31), 5, 6, 2**31 - 1, 0])
    def test_ids_without_a_row_give_the_oov_row(self, bad):
        table = factories.array(5, 3)
        ids = jnp.asarray([[1, bad], [4, 3]], jnp.int32)
        np.testing.assert_array_equal(lookup(table, ids, 5), table[np.asarray([[1, 0], [4, 3]])])

    @pytest.mark.parametrize("bad", [LARGE, stored_rows(LARGE) - 1, 2**31 - 1, -1])
    def test_a_large_table_has_rows_that_no_id_stands_for(self, bad):
        table = jnp.arange(stored_rows(LARGE), dtype=jnp.float32)[:, None]
        rows = lookup(table, factories.ints(bad, 0, 1, LARGE - 1), LARGE)
        np.testing.assert_array_equal(rows[:2], 0.0)
        assert len(np.unique(rows)) == 3

    def test_gradient_adds_up_repeated_ids(self):
        table, ids = jnp.zeros((4, 2)), jnp.asarray([1, 1, 3, -5])
        gradient = jax.grad(lambda t: jnp.sum(lookup(t, ids, 4)))(table)
        np.testing.assert_array_equal(gradient, [[1, 1], [2, 2], [0, 0], [1, 1]])


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


def test_out_of_vocabulary_ids_are_counted_and_padding_is_not():
    real = jnp.arange(10) < BATCH.streams["buy"].lengths[:, None]
    ids = np.where(real, 1, -1)
    ids[0, :3] = [0, 301, -4]
    batch = replace_ids(BATCH, "buy", "item", ids)
    for stream, name in (("buy", "brand"), ("view", "item")):
        batch = replace_ids(batch, stream, name, np.ones_like(batch.streams[stream].ids[name]))
    sparse = {k: v.replace(ids=jnp.ones_like(v.ids)) for k, v in batch.sparse.items()}
    count = factories.jit(lambda batch: count_out_of_vocabulary(batch, SCHEMA))
    unknown, total = count(batch.replace(sparse=sparse))
    values = sum(int(v.lengths.sum()) for v in sparse.values())
    assert (unknown, total) == (3, 14 + 14 + 10 + values)


def readout(tables, batch):
    """Return a nonlinear function of everything that a model may look up."""
    total, embeddings = 0.0, factories.embeddings(tables)
    for feature in SCHEMA.sparse:
        values = batch.sparse[feature.name]
        rows = embeddings[feature.vocabulary](values.ids, FLOAT32)
        total += jnp.sum(jnp.tanh(combine(rows, values.lengths, feature.combiner)))
    for stream in SCHEMA.streams:
        events = batch.streams[stream.name]
        real = jnp.arange(events.ages.shape[1]) < events.lengths[:, None]
        weight = jnp.where(real, jnp.sin(jnp.arange(real.size).reshape(real.shape)), 0.0)
        for feature in stream.ids:
            rows = embeddings[feature.vocabulary](events.ids[feature.name], FLOAT32)
            total += jnp.sum(weight[..., None] * rows**2)
    return total


@factories.jit
def compacted(tables, batch):
    return compact_tables(tables, batch, SCHEMA)


value_and_gradient = factories.jit(jax.value_and_grad(readout))


class TestCompactTables:
    # Unknown, negative, repeated and last ids among those of a table larger than the batch.
    STRANGE = replace_ids(
        BATCH, "buy", "item", [[300, 301, -1, 5, 5, 0, 299, 10**6, 1, 2], [5] * 10, [7] * 10]
    )

    @pytest.mark.parametrize("batch", [BATCH, STRANGE], ids=["plain", "strange"])
    def test_a_function_of_the_small_tables_is_the_function_of_the_whole(self, batch):
        small, rows, local = compacted(TABLES, batch)
        value, gradients = value_and_gradient(small, local)
        expected, dense = value_and_gradient(TABLES, batch)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        for name, table in TABLES.items():
            whole = gradients[name]
            if rows[name] is not None:
                whole = jnp.zeros_like(table).at[rows[name][0]].add(whole[0], mode="drop")
            np.testing.assert_allclose(whole, dense[name], rtol=1e-5, atol=1e-6)

    def test_only_tables_larger_than_the_batch_are_cut(self):
        small, rows, _ = compacted(TABLES, BATCH)
        for name in ("brand", "tag"):
            assert rows[name] is None
            np.testing.assert_array_equal(small[name], TABLES[name])
        # Ids of buy and view events and of the candidate, and the OOV row.
        assert small["item"].shape == (1, 3 * 10 + 3 * 7 + 3 + 1, 4)

    def test_rows_are_distinct_ascending_and_filled_up_past_the_end(self):
        small, rows, _ = compacted(TABLES, self.STRANGE)
        numbers = np.asarray(rows["item"][0])
        used = numbers[numbers < 301]
        assert numbers[0] == 0
        np.testing.assert_array_equal(used, np.unique(used))
        np.testing.assert_array_equal(numbers[len(used) :], 301)
        np.testing.assert_array_equal(small["item"][0, : len(used)], TABLES["item"][used])

    def test_padding_and_labels_are_left_alone(self):
        _, _, local = compacted(TABLES, BATCH)
        for stream in ("buy", "view"):
            np.testing.assert_array_equal(local.streams[stream].dense, BATCH.streams[stream].dense)
        np.testing.assert_array_equal(local.labels, BATCH.labels)

    def test_ids_in_the_padding_take_no_row(self):
        real = jnp.arange(10) < BATCH.streams["buy"].lengths[:, None]
        ids = jnp.where(real, BATCH.streams["buy"].ids["item"], 250)
        _, rows, _ = compacted(TABLES, BATCH)
        _, other, _ = compacted(TABLES, replace_ids(BATCH, "buy", "item", ids))
        np.testing.assert_array_equal(rows["item"], other["item"])

    def test_a_table_that_no_feature_uses_keeps_only_its_oov_row(self):
        tables = {**TABLES, "unused": factories.array(9, 4)}
        small, rows, _ = compacted(tables, BATCH)
        np.testing.assert_array_equal(rows["unused"], [[0]])
        np.testing.assert_array_equal(small["unused"], [tables["unused"][:1]])
