"""Maps, compared with what the operations are really given, in NumPy in float64."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.layers import pffn, seed_pooling
from kunlun_jax.training.step import apply_model
from kunlun_jax.why.maps import GDPA, POOLING, attention_maps
from tests import factories

STREAMS = tuple(
    dataclasses.replace(stream, num_layers=1) for stream in (factories.BUY, factories.VIEW)
)
ACTIVATIONS = {
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def given_to(monkeypatch, module, name):
    """Let an operation tell what it was given, call by call."""
    calls, operation = [], getattr(module, name)

    def told(*args, **kwargs):
        arrays = {key: value for key, value in kwargs.items() if hasattr(value, "shape")}
        jax.debug.callback(
            lambda args, arrays: calls.append((args, arrays)), args, arrays, ordered=False
        )
        return operation(*args, **kwargs)

    monkeypatch.setattr(module, name, told)
    return calls


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gdpa": {"activation": ("relu",), "temperature": "outside"}},
        {"pooling": {"pooling": "pma"}},
    ],
)
def test_maps_are_those_of_the_operations(monkeypatch, changes):
    config = factories.config(num_layers=1, streams=STREAMS, **changes)
    model = factories.kunlun(config)
    batch = factories.batch(lengths={"buy": [6], "view": [3]})
    variables = factories.drawn_variables(model, batch)
    params, tables = variables["params"], variables["tables"]["embedding"]
    maps = attention_maps(model, params, tables, batch)
    calls = {
        GDPA: given_to(monkeypatch, pffn, "gdpa"),
        POOLING: given_to(monkeypatch, seed_pooling, "seed_attention"),
    }
    jax.block_until_ready(jax.jit(partial(apply_model, model))(params, tables, batch))
    jax.effects_barrier()
    found = {kind: [x for x in maps if x.kind == kind] for kind in calls}
    for kind, given in calls.items():
        assert len(given) == len(found[kind]) > 0, kind
        expected = [oracle(kind, config, *call) for call in given]
        for one in found[kind]:
            length = {"buy": 6, "view": 3}[one.stream]
            shown = [by_head(x, len(one.weights))[:, :, :length] for x in expected]
            assert any(
                x.shape == one.weights.shape and np.allclose(x, one.weights, rtol=1e-4, atol=1e-5)
                for x in shown
            ), one.module


def by_head(x, num_heads):
    """Few seeds read the events as one head, for every seed and head: that apart again."""
    if len(x) != 1 or x.shape[1] % num_heads:
        return x
    return x.reshape(-1, num_heads, x.shape[-1]).swapaxes(0, 1)


def oracle(kind, config, args, arrays):
    """Return [heads, rows, T] of the first example."""
    named = {key: np.asarray(value, np.float64) for key, value in arrays.items()}
    if kind == GDPA:
        scores = np.einsum("tnh,snh->nst", named["query"][0], named["key"][0])
        scores *= named["scale_in"][:, None, None]
        return ACTIVATIONS[config.gdpa.activation[0]](scores)
    seeds, key = named["seeds"], named["key"][0]
    scores = np.einsum("pnh,tnh->npt", seeds, key) / seeds.shape[-1] ** 0.5
    scores[:, :, int(named["lengths"][0]) :] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_a_stream_without_events_and_a_model_without_maps():
    model = factories.kunlun(factories.config(num_layers=1, streams=STREAMS))
    batch = factories.batch(lengths={"buy": [0], "view": [1]})
    variables = factories.drawn_variables(model, batch)
    maps = attention_maps(model, variables["params"], variables["tables"]["embedding"], batch)
    assert {one.weights.shape[2] for one in maps if one.stream == "buy"} == {0}
    of_view = [one.weights for one in maps if one.stream == "view" and one.kind == POOLING]
    assert all(np.allclose(weights, 1) for weights in of_view)
    din = factories.recommender(factories.config(name="din"))
    variables = factories.drawn_variables(din, batch)
    assert attention_maps(din, variables["params"], variables["tables"]["embedding"], batch) == []


def test_heads_have_their_own_activations():
    names = ("relu", "gelu_tanh")
    config = factories.config(num_layers=1, streams=STREAMS[:1], gdpa={"activation": names})
    model, batch = factories.kunlun(config), factories.batch(lengths={"buy": [6], "view": [3]})
    variables = factories.drawn_variables(model, batch)
    maps = attention_maps(model, variables["params"], variables["tables"]["embedding"], batch)
    first = next(one for one in maps if one.kind == GDPA)
    assert jnp.min(first.weights[0]) >= 0 > jnp.min(first.weights[1])
