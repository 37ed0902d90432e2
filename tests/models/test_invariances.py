"""What must not change a logit: padding, other lengths of it, other streams' events."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.models.kunlun import KunlunLayer
from tests import factories
from tests.models.variants import VARIANTS

LENGTHS = {"buy": [10, 4, 0, 0], "view": [7, 1, 2, 0]}
BATCH = factories.batch(lengths=LENGTHS, seed=1)
MODEL = factories.config()
KUNLUN = factories.kunlun(MODEL)
VARIABLES = factories.drawn_variables(KUNLUN, BATCH)


def logits(batch):
    return np.asarray(factories.apply(KUNLUN, VARIABLES, batch))


def poisoned(batch):
    """Put NaN and garbage wherever nothing may be read."""

    def poison(events):
        real = jnp.arange(events.ages.shape[1]) < events.lengths[:, None]
        return events.replace(
            ids={k: jnp.where(real, v, (-5, 10**6)[len(k) % 2]) for k, v in events.ids.items()},
            dense=jnp.where(real[..., None], events.dense, jnp.nan),
            ages=jnp.where(real, events.ages, -(2**31)),
            matches={k: jnp.where(real, v, True) for k, v in events.matches.items()},
        )

    tags = batch.sparse["tags"]
    garbage = jnp.where(jnp.arange(3) < tags.lengths[:, None], tags.ids, 10**6)
    return batch.replace(
        streams={name: poison(events) for name, events in batch.streams.items()},
        sparse={**batch.sparse, "tags": tags.replace(ids=garbage)},
    )


def padded(batch, extra):
    """Append padding to every stream."""

    def pad(x):
        width = [(0, 0), (0, extra)] + [(0, 0)] * (x.ndim - 2)
        return jnp.pad(x, width) if x.ndim > 1 else x

    return batch.replace(streams=jax.tree.map(pad, batch.streams))


def test_what_stands_in_the_padding_changes_no_logit():
    np.testing.assert_array_equal(logits(poisoned(BATCH)), logits(BATCH))
    assert np.all(np.isfinite(logits(BATCH)))


def test_more_padding_changes_no_logit():
    longer = poisoned(padded(BATCH, 5))
    np.testing.assert_allclose(logits(longer), logits(BATCH), rtol=1e-5, atol=1e-5)


def test_what_stands_in_the_padding_changes_no_gradient():
    kunlun = factories.kunlun(VARIANTS["default"])
    variables = factories.drawn_variables(kunlun, BATCH)
    gradient = factories.loss_gradient(kunlun)
    clean, other = gradient(variables, BATCH), gradient(variables, poisoned(BATCH))
    chex.assert_trees_all_equal(other, clean)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(clean))


def test_an_example_does_not_depend_on_its_batch():
    reversed_batch = jax.tree.map(lambda x: x[::-1], BATCH)
    np.testing.assert_allclose(logits(reversed_batch)[::-1], logits(BATCH), rtol=1e-5, atol=1e-5)


def test_users_without_any_event_get_finite_logits_that_differ_by_context():
    events = jax.tree.map(jnp.zeros_like, BATCH.streams)
    out = logits(BATCH.replace(streams=events))
    assert np.all(np.isfinite(out))
    assert len(np.unique(out[:, 0])) == 4


def test_every_event_matters():
    base = logits(BATCH)
    for name in ("buy", "view"):
        events = BATCH.streams[name]
        for t in (0, int(events.lengths[0]) - 1):
            moved = events.replace(dense=events.dense.at[0, t].add(1.0))
            out = logits(BATCH.replace(streams={**BATCH.streams, name: moved}))
            assert np.all(np.abs(out - base)[0] > 1e-6), (name, t)
            np.testing.assert_array_equal(out[1:], base[1:])


TOKENS = factories.array(4, 8, 8)
EVENTS = {"buy": factories.array(4, 10, 8, seed=1), "view": factories.array(4, 7, 12, seed=2)}
POOLED = {"buy": factories.array(4, 2, 8, seed=3), "view": factories.array(4, 3, 8, seed=4)}


class TestLayer:
    """One layer by itself; the tokens X, the events S and the cache of pooled tokens H go in."""

    def run(self, index, *, tokens=TOKENS, events=EVENTS, pooled=POOLED):
        layer = KunlunLayer(MODEL, index)
        if index == 0:  # before it there are the context's tokens
            tokens = tokens[:, : factories.NUM_CONTEXT_TOKENS]
        variables = {"params": VARIABLES["params"][f"layer_{index}"]}
        return factories.apply(layer, variables, tokens, events, pooled, BATCH)

    @pytest.mark.parametrize("index", [0, 2])
    def test_an_even_layer_ignores_the_cache(self, index):
        other = {name: h + 1.0 for name, h in POOLED.items()}
        chex.assert_trees_all_equal(self.run(index), self.run(index, pooled=other))

    @pytest.mark.parametrize("index", [1, 3])
    def test_an_odd_layer_hands_on_the_very_cache_and_interacts_with_it(self, index):
        tokens, _, pooled = self.run(index)
        chex.assert_trees_all_equal(pooled, POOLED)
        other = {name: -2.0 * h for name, h in POOLED.items()}
        assert np.all(np.abs(self.run(index, pooled=other)[0] - tokens).max(axis=(1, 2)) > 1e-3)

    @pytest.mark.parametrize("index", [1, 3])
    def test_the_events_of_an_odd_layer_ignore_the_context(self, index):
        _, events, _ = self.run(index)
        _, other, _ = self.run(index, tokens=-2.0 * TOKENS)
        chex.assert_trees_all_equal(other, events)

    @pytest.mark.parametrize("index", [0, 2])
    def test_the_events_of_an_even_layer_are_personalised(self, index):
        _, events, _ = self.run(index)
        _, other, _ = self.run(index, tokens=-2.0 * TOKENS)
        assert np.abs(other["buy"] - events["buy"])[0].max() > 1e-3

    @pytest.mark.parametrize("pool_from", ["pffn", "events"])
    def test_the_pooled_tokens_of_layer_0_know_the_candidate(self, pool_from):
        """Figure 1: HSP reads what the PFFN has personalised; in the earlier wiring it did not."""
        pooling = dataclasses.replace(MODEL.pooling, pool_from=pool_from)
        layer = KunlunLayer(dataclasses.replace(MODEL, pooling=pooling), 0)
        variables = {"params": VARIABLES["params"]["layer_0"]}

        def pooled(candidate):
            tokens = TOKENS[:, : factories.NUM_CONTEXT_TOKENS].at[:, 0].set(candidate)
            return layer.apply(variables, tokens, EVENTS, POOLED, BATCH)[2]["buy"]

        derivative = factories.jit(jax.jacobian(pooled))(TOKENS[:, 0])
        has_events = np.array(LENGTHS["buy"]) > 0
        moved = np.abs(np.einsum("bqdbe->bqde", derivative)).max(axis=(1, 2, 3)) > 1e-6
        np.testing.assert_array_equal(moved, has_events & (pool_from == "pffn"))

    @pytest.mark.parametrize("index", [0, 1])
    def test_a_stream_depends_on_another_ones_events_only_through_the_tokens(self, index):
        tokens, events, pooled = self.run(index)
        changed = {**EVENTS, "view": -2.0 * EVENTS["view"]}
        other_tokens, other_events, other_pooled = self.run(index, events=changed)
        np.testing.assert_array_equal(other_events["buy"], events["buy"])
        np.testing.assert_array_equal(other_pooled["buy"], pooled["buy"])
        assert np.any(other_events["view"] != events["view"])
        # In an odd layer the pooled tokens are cached: not even the tokens see the change.
        assert np.any(other_tokens != tokens) == (index == 0)

    def test_a_stream_beyond_its_last_layer_is_handed_on(self):
        layer = KunlunLayer(VARIANTS["default"], 1)  # "view" has one layer
        shapes = jax.eval_shape(layer.init, jax.random.key(0), TOKENS, EVENTS, POOLED, BATCH)
        assert not [name for name in shapes["params"] if name.startswith("view")]
        variables = factories.drawn_variables(layer, TOKENS, EVENTS, POOLED, BATCH)
        _, events, pooled = factories.apply(layer, variables, TOKENS, EVENTS, POOLED, BATCH)
        np.testing.assert_array_equal(events["view"], EVENTS["view"])
        np.testing.assert_array_equal(pooled["view"], POOLED["view"])
