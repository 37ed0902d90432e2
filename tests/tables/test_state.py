import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers.embedding import combine
from kunlun_jax.tables import TableState, count_out_of_vocabulary
from tests import factories

FLOAT32 = jnp.dtype("float32")
SCHEMA = factories.SCHEMA
BATCH = factories.batch(lengths={"buy": [10, 4, 0], "view": [7, 1, 2]})
TABLES = {v.name: factories.array(v.num_rows, 4, seed=i) for i, v in enumerate(SCHEMA.vocabularies)}


def replace_ids(batch, stream, name, ids):
    events = batch.streams[stream]
    events = events.replace(ids={**events.ids, name: jnp.asarray(ids, jnp.int32)})
    return batch.replace(streams={**batch.streams, stream: events})


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
def gathered(tables, batch):
    return TableState(tables, {}).gather(batch, SCHEMA)


value_and_gradient = factories.jit(jax.value_and_grad(readout))


class TestGather:
    # Unknown, negative, repeated and last ids among those of a table larger than the batch.
    STRANGE = replace_ids(
        BATCH, "buy", "item", [[300, 301, -1, 5, 5, 0, 299, 10**6, 1, 2], [5] * 10, [7] * 10]
    )

    @pytest.mark.parametrize("batch", [BATCH, STRANGE], ids=["plain", "strange"])
    def test_a_function_of_the_small_tables_is_the_function_of_the_whole(self, batch):
        small, local, touched = gathered(TABLES, batch)
        value, gradients = value_and_gradient(small, local)
        expected, dense = value_and_gradient(TABLES, batch)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        for name, table in TABLES.items():
            whole = gradients[name]
            if name in touched:
                whole = jnp.zeros_like(table).at[touched[name][0]].add(whole[0], mode="drop")
            np.testing.assert_allclose(whole, dense[name], rtol=1e-5, atol=1e-6)

    def test_only_tables_larger_than_the_batch_are_cut(self):
        small, _, touched = gathered(TABLES, BATCH)
        for name in ("brand", "tag"):
            assert name not in touched
            np.testing.assert_array_equal(small[name], TABLES[name])
        # Ids of buy and view events and of the candidate, and the OOV row.
        assert small["item"].shape == (1, 3 * 10 + 3 * 7 + 3 + 1, 4)

    def test_rows_are_distinct_ascending_and_filled_up_past_the_end(self):
        small, _, touched = gathered(TABLES, self.STRANGE)
        numbers = np.asarray(touched["item"][0])
        used = numbers[numbers < 301]
        assert numbers[0] == 0
        np.testing.assert_array_equal(used, np.unique(used))
        np.testing.assert_array_equal(numbers[len(used) :], 301)
        np.testing.assert_array_equal(small["item"][0, : len(used)], TABLES["item"][used])

    def test_padding_and_labels_are_left_alone(self):
        _, local, _ = gathered(TABLES, BATCH)
        for stream in ("buy", "view"):
            np.testing.assert_array_equal(local.streams[stream].dense, BATCH.streams[stream].dense)
        np.testing.assert_array_equal(local.labels, BATCH.labels)

    def test_ids_in_the_padding_take_no_row(self):
        real = jnp.arange(10) < BATCH.streams["buy"].lengths[:, None]
        ids = jnp.where(real, BATCH.streams["buy"].ids["item"], 250)
        _, _, touched = gathered(TABLES, BATCH)
        _, _, other = gathered(TABLES, replace_ids(BATCH, "buy", "item", ids))
        np.testing.assert_array_equal(touched["item"], other["item"])

    def test_a_table_that_no_feature_uses_keeps_only_its_oov_row(self):
        tables = {**TABLES, "unused": factories.array(9, 4)}
        small, _, touched = gathered(tables, BATCH)
        np.testing.assert_array_equal(touched["unused"], [[0]])
        np.testing.assert_array_equal(small["unused"], [tables["unused"][:1]])
