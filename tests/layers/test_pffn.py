import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.models.stream_layers import StreamLayers
from tests import factories, oracles

STREAM = dataclasses.replace(factories.BUY, model_dim=12, num_heads=3, max_len=7)
LENGTHS = factories.ints(6, 2, 0)
EVENTS = factories.array(3, 6, 12)
SUMMARY = factories.array(3, 3, 8, seed=1)
VARIANTS = {
    "inside": {"temperature": "inside"},
    "outside": {"temperature": "outside"},
    "none": {"temperature": "none"},
    "relu": {"activation": ("relu",)},
    "one_per_head": {"activation": ("identity", "silu", "gelu_tanh")},
    "mlp": {"pffn": "mlp"},
    "linear": {"pffn": "linear"},
    "random": {"init": "random"},
}


def config(init="aligned", **gdpa):
    return factories.config(streams=(STREAM,), gdpa=gdpa, init=init)


def pffn(**changes):
    return StreamLayers(STREAM, config(**changes)).pffn()


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_formula(variant):
    model = config(**VARIANTS[variant])
    module = StreamLayers(STREAM, model).pffn()
    variables = factories.drawn_variables(module, EVENTS, SUMMARY, LENGTHS)
    out = factories.apply(module, variables, EVENTS, SUMMARY, LENGTHS)
    p = factories.float64(variables["params"])
    for b, length in enumerate(LENGTHS):
        events, summary = factories.float64((EVENTS[b, :length], SUMMARY[b]))
        expected = oracles.pffn(p, events, summary, STREAM, model)
        np.testing.assert_allclose(out[b, :length], expected, rtol=1e-5, atol=1e-5)


def test_zero_values_leave_the_normalised_events():
    module = pffn()
    variables = factories.drawn_variables(module, EVENTS, SUMMARY, LENGTHS)
    variables["params"]["values"] = jax.tree.map(jnp.zeros_like, variables["params"]["values"])
    out = factories.apply(module, variables, EVENTS, SUMMARY, factories.ints(6, 6, 6))
    events = np.asarray(EVENTS, np.float64)
    expected = oracles.rms_norm(oracles.layer_norm(events)) + events
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_one_head_with_given_weights_is_a_feed_forward_layer():
    """GDPA(LN(S), W1^T, W2) = act(LN(S) W1) W2, with W1's columns normalised (K is)."""
    stream = dataclasses.replace(STREAM, model_dim=8, num_heads=1, n_kv=3)
    model = factories.config(streams=(stream,), gdpa={"temperature": "none"}, init="random")
    module = StreamLayers(stream, model).pffn()
    events, summary = EVENTS[:1, :, :8], SUMMARY[:1]
    variables = factories.drawn_variables(module, events, summary, LENGTHS[:1])
    first, second = factories.array(8, 8, seed=2), factories.array(8, 8, seed=3)
    for name, kernel in (("keys", first), ("values", second)):
        variables["params"][name] = {"slots": jnp.eye(3), "projection": {"kernel": kernel}}
    out = factories.apply(module, variables, events, summary, LENGTHS[:1])
    s, x, k, v = factories.float64((events[0], summary[0], first, second))
    w1, w2 = oracles.rms_norm(x @ k).T, x @ v
    query = oracles.layer_norm(s)
    expected = oracles.rms_norm(oracles.gelu_tanh(query @ w1) @ w2 + query) + s
    np.testing.assert_allclose(out[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("gain_init", "expected"), [(0.0, 7 / 4**0.5), (1.0, 1.0)])
def test_gain_starts_at_unit_variance_or_where_told(gain_init, expected):
    module = pffn(gain_init=gain_init)
    variables = factories.initialized(module, EVENTS, SUMMARY, LENGTHS)
    np.testing.assert_allclose(variables["params"]["gain"], [expected] * 3, rtol=1e-6)


@pytest.mark.parametrize("temperature", ["outside", "none"])
def test_only_inside_has_a_gain(temperature):
    module = pffn(temperature=temperature)
    shapes = jax.eval_shape(module.init, jax.random.key(0), EVENTS, SUMMARY, LENGTHS)
    assert set(shapes["params"]) == {"keys", "values"}


def test_aligned_keys_start_as_the_summary_and_random_ones_do_not():
    stream = dataclasses.replace(STREAM, model_dim=8, num_heads=1, n_kv=6)
    similarity = {}
    for init in ("aligned", "random"):
        module = StreamLayers(stream, factories.config(streams=(stream,), init=init)).pffn()
        args = (EVENTS[:, :, :8], SUMMARY, LENGTHS)
        p = factories.float64(factories.initialized(module, *args))["params"]
        keys = p["keys"]["slots"] @ np.asarray(SUMMARY) @ p["keys"]["projection"]["kernel"]
        repeated = np.tile(SUMMARY, (1, 2, 1))
        similarity[init] = np.corrcoef(keys.ravel(), repeated.ravel())[0, 1]
    assert similarity["aligned"] > 0.95
    assert abs(similarity["random"]) < 0.5


@pytest.mark.parametrize("kind", ["gdpa", "mlp", "linear"])
def test_padding_reaches_no_real_event_and_no_gradient(kind):
    module = pffn(pffn=kind)
    variables = factories.drawn_variables(module, EVENTS, SUMMARY, LENGTHS)
    real = (jnp.arange(6) < LENGTHS[:, None])[..., None]

    def loss(variables, events):
        out = module.apply(variables, events, SUMMARY, LENGTHS)
        return jnp.sum(jnp.where(real, out, 0) ** 2)

    gradient = factories.jit(jax.grad(loss))
    clean = gradient(variables, EVENTS)
    other = gradient(variables, jnp.where(real, EVENTS, 7.0 * EVENTS[::-1]))
    chex.assert_trees_all_equal(clean, other)
