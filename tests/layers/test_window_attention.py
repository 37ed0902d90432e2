import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.models.stream_layers import StreamLayers
from tests import factories, oracles

T = 9
STREAM = dataclasses.replace(factories.BUY, model_dim=8, num_heads=2, window=2)
LENGTHS = factories.ints(9, 4, 1, 0)
EVENTS = factories.array(4, T, 8)
AGES = jnp.asarray(
    np.sort(np.random.default_rng(0).integers(0, 10**6, (4, T)), axis=1)[:, ::-1].copy(), jnp.int32
)


def configs(window=2, **rote):
    stream = dataclasses.replace(STREAM, window=window)
    return stream, factories.config(streams=(stream,), rote=rote)


def attention(window=2, **rote):
    return StreamLayers(*configs(window, **rote)).attention()


VARIABLES = factories.drawn_variables(attention(), EVENTS, AGES, LENGTHS)


def run(module, events=EVENTS, ages=AGES, lengths=LENGTHS, variables=VARIABLES):
    return np.asarray(factories.apply(module, variables, events, ages, lengths))


@pytest.mark.parametrize(
    "rote",
    [
        {},
        {"gaps": "to_request", "time_scale": 3600.0, "base": 100.0, "time_base": 30.0},
        {"gaps": "positions_only"},
        {"learnable": True},
    ],
)
@pytest.mark.parametrize("window", [1, 20])
def test_equals_the_formula(window, rote):
    module = attention(window, **rote)
    variables = factories.drawn_variables(module, EVENTS, AGES, LENGTHS)
    out = run(module, variables=variables)
    p = factories.float64(variables["params"])
    for b, length in enumerate(LENGTHS):
        events, ages = factories.float64((EVENTS[b, :length], AGES[b, :length]))
        expected = oracles.window_attention(p, events, ages, *configs(window, **rote))
        np.testing.assert_allclose(out[b, :length], expected, rtol=2e-5, atol=2e-5)


def test_a_window_of_the_whole_stream_is_full_attention():
    np.testing.assert_array_equal(run(attention(T)), run(attention(1000)))
    np.testing.assert_allclose(run(attention(T - 1)), run(attention(T)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("moved", [0, 4, 8])
def test_an_event_moves_its_window_only(moved):
    module, lengths = attention(), factories.ints(9, 9, 9, 9)
    changed = run(module, events=EVENTS.at[:, moved].multiply(-2.0), lengths=lengths)
    difference = np.abs(changed - run(module, lengths=lengths)).max(axis=(0, 2))
    near = np.abs(np.arange(T) - moved) <= 2
    assert np.all(difference[near] > 1e-4)
    np.testing.assert_array_equal(difference[~near], 0.0)


def test_time_tells_events_apart_unless_it_is_switched_off():
    module, shifted = attention(), AGES.at[:, :4].add(10**6)
    assert np.abs(run(module, ages=shifted) - run(module)).max() > 1e-3
    module = attention(gaps="positions_only")
    np.testing.assert_array_equal(run(module, ages=shifted), run(module))


def test_adjacent_gaps_ignore_when_the_request_comes():
    np.testing.assert_array_equal(run(attention(), ages=AGES + 777), run(attention()))
    module = attention(gaps="to_request")
    assert np.abs(run(module, ages=AGES + 10**6) - run(module)).max() > 1e-4


def test_padding_reaches_no_real_event_and_no_gradient():
    module = attention(learnable=True)
    variables = factories.drawn_variables(module, EVENTS, AGES, LENGTHS)
    real = jnp.arange(T) < LENGTHS[:, None]

    def loss(variables, events, ages):
        out = module.apply(variables, events, ages, LENGTHS)
        return jnp.sum(jnp.where(real[..., None], out, 0) ** 2)

    gradient = factories.jit(jax.grad(loss))
    clean = gradient(variables, EVENTS, AGES)
    garbage = jnp.where(real, AGES, -(2**31))
    other = gradient(variables, jnp.where(real[..., None], EVENTS, -9.0), garbage)
    chex.assert_trees_all_equal(clean, other)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(clean))
