import jax
import numpy as np
import pytest

from kunlun_jax.layers.probe import PROBES
from tests import factories
from tests.models.variants import PEERS, VARIANTS

BATCH = factories.batch(lengths={"buy": [10, 4, 0], "view": [7, 1, 2]})
MODELS = {"kunlun": VARIANTS["default"], **PEERS}
ENCODED = {"buy/layer_0", "view/layer_0"}
MERGED = {f"merged/layer_{i}" for i in (1, 2)}
EXPECTED = {
    "kunlun": ENCODED | {f"{name}/layer_{i}" for name in ("buy", "view") for i in (1, 2)},
    "wukong": ENCODED,
    "din": ENCODED,
    "interformer": ENCODED | MERGED,
    "hstu": ENCODED | MERGED,
    "tokenformer": ENCODED | MERGED | {"merged/layer_3"},
    "unidot": ENCODED | {"buy/layer_1", "view/layer_1"},
}


def shapes_of(name, **options):
    model = factories.recommender(MODELS[name])
    variables = jax.eval_shape(model.init, jax.random.key(0), BATCH)
    assert set(variables) == {"params", "tables"}
    return jax.eval_shape(lambda v: model.apply(v, BATCH, **options), variables)


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_recorded_when_asked_for(name):
    _, recorded = shapes_of(name, mutable=[PROBES])
    assert set(recorded[PROBES]) == EXPECTED[name]


def test_nothing_is_computed_unless_asked_for():
    model = factories.recommender(PEERS["din"])
    variables = factories.drawn_variables(model, BATCH)
    plain, probed = (
        len(jax.make_jaxpr(lambda v, m=m: model.apply(v, BATCH, mutable=m))(variables).eqns)
        for m in ([], [PROBES])
    )
    assert plain == len(jax.make_jaxpr(lambda v: model.apply(v, BATCH))(variables).eqns) < probed


def test_moments_are_those_of_the_real_events_of_real_examples():
    model = factories.recommender(PEERS["din"])
    weights = BATCH.weights.at[1].set(0.0)
    variables = factories.drawn_variables(model, BATCH)

    @factories.jit
    def moments(variables, batch):
        def keep(module, method):  # of the encoders, their tokens
            return type(module).__name__ == "EventEncoder"

        _, recorded = model.apply(
            variables, batch, mutable=[PROBES, "intermediates"], capture_intermediates=keep
        )
        return recorded

    recorded = moments(variables, BATCH.replace(weights=weights))
    for name, lengths in (("buy", [10, 0]), ("view", [7, 2])):
        (tokens,) = recorded["intermediates"][f"{name}_encoder"]["__call__"]
        z = np.concatenate([tokens[b, :n] for b, n in zip((0, 2), lengths, strict=True)])
        expected = np.asarray(z, np.float64).T @ z
        np.testing.assert_allclose(recorded[PROBES][f"{name}/layer_0"], expected, rtol=1e-4)
