import jax
import numpy as np

from kunlun_jax.layers.features import features_in_use
from tests import factories
from tests.models.variants import PEERS

BATCH = factories.batch()


def test_all_features_are_in_use_by_default():
    assert features_in_use(factories.SCHEMA, factories.config()) is factories.SCHEMA


def test_without_numbers_a_model_reads_ids_and_ages_only():
    model = factories.recommender(factories.config(name="din", use_dense=False))
    variables = factories.drawn_variables(model, BATCH)
    assert "dense" not in variables["params"].get("context", {})

    def logits(batch):
        return np.asarray(factories.apply(model, variables, batch))

    def changed(**fields):
        streams = {
            name: events.replace(**{k: f(getattr(events, k)) for k, f in fields.items()})
            for name, events in BATCH.streams.items()
        }
        return logits(BATCH.replace(streams=streams, dense=BATCH.dense + 1.0))

    np.testing.assert_array_equal(changed(dense=lambda x: x + 1.0), logits(BATCH))
    assert np.all(np.abs(changed(ages=lambda x: x + 10**6) - logits(BATCH)).max(axis=1) > 1e-4)


def test_with_numbers_a_model_reads_them():
    shapes = jax.eval_shape(factories.recommender(PEERS["din"]).init, jax.random.key(0), BATCH)
    assert "dense" in shapes["params"]["context"]
