import jax.numpy as jnp
import numpy as np

from kunlun_jax.layers.merged_events import (
    EventSequence,
    MergedEvents,
    between_context_and_candidate,
    rows_at,
)
from tests import factories, oracles_peers

BATCH = factories.batch(lengths={"buy": [10, 4, 0, 0], "view": [7, 0, 2, 0]}, seed=2)
NAMES = ("buy", "view")
EVENTS = {"buy": factories.array(4, 10, 8, seed=1), "view": factories.array(4, 7, 8, seed=2)}


def merge(batch, events=EVENTS):
    module = MergedEvents(NAMES)
    variables = factories.drawn_variables(module, events, batch)
    return variables["params"], factories.apply(module, variables, events, batch)


def test_events_of_all_streams_come_oldest_first():
    params, sequence = merge(BATCH)
    p = factories.float64(params)
    for b, length in enumerate([17, 4, 2, 0]):
        streams = []
        for name in NAMES:
            count = int(BATCH.streams[name].lengths[b])
            streams.append(factories.float64((EVENTS[name], BATCH.streams[name].ages)))
            streams[-1] = tuple(x[b, :count] for x in streams[-1])
        tokens, ages = oracles_peers.merged(p, streams)
        assert sequence.lengths[b] == length
        np.testing.assert_allclose(sequence.tokens[b, :length], tokens, rtol=1e-6)
        np.testing.assert_array_equal(sequence.ages[b, :length], ages)
        np.testing.assert_array_equal(sequence.tokens[b, length:], 0.0)
        np.testing.assert_array_equal(sequence.ages[b, length:], 0)


def test_events_of_one_second_keep_the_order_of_the_streams():
    streams = {k: v.replace(ages=jnp.zeros_like(v.ages)) for k, v in BATCH.streams.items()}
    params, sequence = merge(BATCH.replace(streams=streams))
    expected = jnp.concatenate([EVENTS[n][0] + params["kinds"][i] for i, n in enumerate(NAMES)])
    np.testing.assert_allclose(sequence.tokens[0], expected, rtol=1e-6)


def test_the_candidate_ends_the_real_events():
    tokens = factories.array(2, 3, 4)
    events = EventSequence(jnp.ones((2, 5, 4)), jnp.zeros((2, 5), jnp.int32), factories.ints(5, 2))
    out = between_context_and_candidate(tokens, events)
    assert out.shape == (2, 8, 4)
    np.testing.assert_array_equal(out[:, :2], tokens[:, 1:])
    np.testing.assert_array_equal(out[0, 2:], [*np.ones((5, 4)), tokens[0, 0]])
    np.testing.assert_array_equal(out[1, 4], tokens[1, 0])


def test_rows_at_negative_places_are_zeros():
    tokens = factories.array(2, 3, 4)
    rows = rows_at(tokens, jnp.asarray([[2, 0], [-1, 1]]))
    np.testing.assert_array_equal(rows[0], tokens[0, jnp.asarray([2, 0])])
    np.testing.assert_array_equal(rows[1], [np.zeros(4), tokens[1, 1]])
