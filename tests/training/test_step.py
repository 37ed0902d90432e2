import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import ExperimentConfig, OptimizerConfig
from kunlun_jax.metrics import binary_metrics
from kunlun_jax.training.optimizer import OptimizerArguments, dense_optimizer, schedule
from kunlun_jax.training.step import (
    apply_model,
    create_train_state,
    make_eval_step,
    make_train_step,
    weighted_loss,
)
from tests import factories
from tests.models.variants import one_layer
from tests.training.runs import assert_equal_states

NUM_STEPS = 20
CONFIG = ExperimentConfig(
    model=one_layer(init="random"),
    # A step of a row is larger than the spacing of bfloat16.
    optimizer=OptimizerConfig(
        warmup_steps=0, table_learning_rate=0.1, table_initial_accumulator=0.05
    ),
)
KUNLUN = factories.kunlun(CONFIG.model)
BATCH = factories.batch(lengths={"buy": [10, 4, 0, 2], "view": [7, 1, 2, 0]}).replace(
    weights=jnp.asarray([1.0, 2.0, 0.5, 0.0])
)
train_step = factories.jit(make_train_step(KUNLUN, factories.SCHEMA, CONFIG, num_steps=NUM_STEPS))
eval_step = factories.jit(make_eval_step(KUNLUN))


@factories.jit
def create(batch):
    return create_train_state(KUNLUN, CONFIG, batch, num_steps=NUM_STEPS)


@pytest.fixture(scope="module")
def state():
    return create(BATCH)


@pytest.fixture(scope="module")
def after(state):
    return train_step(state, BATCH)


@factories.jit
def dense_gradients(params, tables, batch):
    """Return gradients of the parameters and of whole tables, and the logits."""

    def loss(params, tables):
        logits = apply_model(KUNLUN, params, tables, batch)
        return weighted_loss(logits, batch), logits

    gradients, logits = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, tables)
    return *gradients, logits


class TestWeightedLoss:
    def test_equals_the_formula(self):
        logits = factories.array(4, 2)
        z, y = np.asarray(logits, np.float64), np.asarray(BATCH.labels, np.float64)
        losses = np.mean(np.log1p(np.exp(-z)) + (1 - y) * z, axis=1)
        weights = np.asarray(BATCH.weights, np.float64)
        expected = (weights * losses).sum() / weights.sum()
        np.testing.assert_allclose(weighted_loss(logits, BATCH), expected, rtol=1e-6)

    @pytest.mark.parametrize("shares", [(1.0, 3.0), (0.0, 2.0), (0.25, 0.0)])
    @pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
    def test_task_weights_equal_the_formula(self, shares, scale):
        batch = BATCH.replace(weights=BATCH.weights * jnp.float32(scale))
        logits = factories.array(4, 2)
        z, y = np.asarray(logits, np.float64), np.asarray(batch.labels, np.float64)
        losses = np.average(np.log1p(np.exp(-z)) + (1 - y) * z, axis=1, weights=shares)
        expected = np.average(losses, weights=np.asarray(batch.weights, np.float64))
        np.testing.assert_allclose(weighted_loss(logits, batch, shares), expected, rtol=1e-6)

    def test_equal_task_weights_are_the_mean(self):
        logits = factories.array(4, 2)
        np.testing.assert_allclose(
            weighted_loss(logits, BATCH, (7.0, 7.0)), weighted_loss(logits, BATCH), rtol=1e-6
        )

    def test_a_task_of_weight_zero_gets_no_gradient_whatever_its_logits(self):
        logits = factories.array(4, 2).at[:, 0].set(jnp.nan)
        loss, gradient = jax.value_and_grad(weighted_loss)(logits, BATCH, (0.0, 1.0))
        assert jnp.isfinite(loss)
        np.testing.assert_array_equal(gradient[:, 0], 0.0)
        assert jnp.isfinite(gradient).all()

    def test_an_example_of_weight_zero_counts_for_nothing_even_with_nan(self):
        logits = factories.array(4, 2)
        poisoned = weighted_loss(logits.at[3].set(jnp.nan), BATCH)
        np.testing.assert_array_equal(poisoned, weighted_loss(logits, BATCH))

    def test_a_batch_of_padding_has_loss_and_gradient_zero(self):
        empty = BATCH.replace(weights=jnp.zeros(4))
        value_and_gradient = factories.jit(jax.value_and_grad(weighted_loss))
        loss, gradient = value_and_gradient(factories.array(4, 2), empty)
        assert loss == 0.0
        np.testing.assert_array_equal(gradient, 0.0)


class TestTrainState:
    def test_starts_at_step_zero_with_float32_everywhere(self, state):
        assert state.step == 0
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        assert {name: t.shape for name, t in state.tables.items()} == {
            "item": (301, 8),
            "brand": (5, 8),
            "tag": (7, 8),
        }
        for name, sums in state.accumulators.items():
            np.testing.assert_array_equal(sums, np.full(len(state.tables[name]), np.float32(0.05)))

    def test_depends_on_the_shapes_of_the_batch_only(self, state):
        again = create(factories.batch(size=4, seed=9))
        chex.assert_trees_all_equal(again, state)


class TestTrainStep:
    def test_dense_parameters_follow_the_dense_gradient(self, state, after):
        gradients, _, _ = dense_gradients(state.params, state.tables, BATCH)
        optimizer = dense_optimizer(CONFIG.optimizer, NUM_STEPS)
        updates, _ = factories.jit(optimizer.update)(gradients, state.opt_state, state.params)
        expected = jax.tree.map(lambda p, u: np.asarray(p) + np.asarray(u), state.params, updates)
        chex.assert_trees_all_close(after.params, expected, rtol=1e-4, atol=2e-5)
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradients)))
        np.testing.assert_allclose(after.gradient_norm, norm, rtol=1e-5)

    def test_tables_follow_the_dense_gradient_row_by_row(self, state, after):
        _, gradients, _ = dense_gradients(state.params, state.tables, BATCH)
        rate = CONFIG.optimizer.table_learning_rate * float(
            schedule(CONFIG.optimizer, NUM_STEPS)(0)
        )
        for name, table in state.tables.items():
            g = np.asarray(gradients[name], np.float64)
            sums = 0.05 + np.mean(g**2, axis=1)
            np.testing.assert_allclose(after.accumulators[name], sums, rtol=1e-5)
            expected = np.asarray(table) - rate * g / np.sqrt(sums + 1e-10)[:, None]
            np.testing.assert_allclose(after.tables[name], expected, rtol=1e-4, atol=1e-5)
            unused = ~np.any(g != 0, axis=1)
            np.testing.assert_array_equal(after.tables[name][unused], table[unused])

    def test_rows_of_the_batch_move_and_no_others(self, state, after):
        moved = np.any(np.asarray(after.tables["item"] != state.tables["item"]), axis=1)
        weighted = np.asarray(BATCH.weights > 0)  # the last example has no weight
        events = BATCH.streams["buy"]
        real = (np.arange(10) < np.asarray(events.lengths)[:, None]) & weighted[:, None]
        used = set(np.asarray(events.ids["item"])[real])
        used |= set(np.asarray(BATCH.sparse["item"].ids)[weighted, 0])
        assert set(np.flatnonzero(moved)) == used

    def test_is_bitwise_repeatable(self, state, after):
        chex.assert_trees_all_equal(train_step(state, BATCH), after)

    def test_counts_steps_examples_and_unknown_ids(self, state, after):
        assert after.step == 1
        expected = eval_step(state.params, state.tables, binary_metrics.init(2), BATCH)[0]
        chex.assert_trees_all_close(after.metrics, expected, rtol=1e-5, atol=1e-6)
        second = train_step(after, BATCH)
        assert second.step == 2
        np.testing.assert_array_equal(
            second.out_of_vocabulary, 2 * np.asarray(after.out_of_vocabulary)
        )
        assert after.out_of_vocabulary[1] > 16 + 16 + 10

    def test_learns_the_batch_by_heart(self, state):
        losses = []
        for _ in range(NUM_STEPS):
            _, logits, _ = eval_step(state.params, state.tables, binary_metrics.init(2), BATCH)
            losses.append(float(weighted_loss(logits, BATCH)))
            state = train_step(state, BATCH)
        assert losses[-1] < 0.75 * losses[0]


class TestNumericalGuard:
    """What is not finite changes nothing but the counters.

    `item` has more rows than the batch has ids and is cut down, `brand` and `tag` are passed whole.
    """

    UNCHANGED = ("params", "tables", "opt_state", "accumulators")

    def poisoned(self, value=jnp.nan):
        dense = BATCH.dense.at[0, 0].set(value)
        return BATCH.replace(dense=dense)

    def assert_nothing_moved(self, got, expected):
        for field in self.UNCHANGED:
            assert_equal_states(getattr(got, field), getattr(expected, field))

    @pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
    def test_leaves_every_bit(self, after, value):
        got = train_step(after, self.poisoned(value))
        self.assert_nothing_moved(got, after)
        assert (int(got.step), int(got.guard.skipped), int(got.guard.in_row)) == (2, 1, 1)

    def test_goes_on_with_the_next_batch_as_if_it_had_not_been(self, state, after):
        skipped = train_step(state, self.poisoned())
        got = train_step(skipped, BATCH)
        assert (int(got.step), int(got.guard.skipped), int(got.guard.in_row)) == (2, 1, 0)
        # The schedule of the dense optimizer counts the updates that were taken.
        assert_equal_states(got.params, after.params)
        assert_equal_states(got.opt_state, after.opt_state)

    def test_once_it_has_given_up_nothing_counts_any_more(self, state):
        for _ in range(CONFIG.training.stop_after_skips):
            state = train_step(state, self.poisoned())
        for batch in (BATCH, self.poisoned()):
            got = train_step(state, batch)
            self.assert_nothing_moved(got, state)
            assert_equal_states((got.step, got.guard), (state.step, state.guard))


class TestOptimizerArguments:
    """Numbers of the optimizer that the program takes instead of holding them."""

    OTHERS = dataclasses.replace(
        CONFIG.optimizer,
        learning_rate=0.02,
        table_learning_rate=0.3,
        weight_decay=0.3,
    )

    def test_take_the_place_of_the_settings(self, state, after):
        got = train_step(state, BATCH, OptimizerArguments.of(self.OTHERS))
        gradients, _, _ = dense_gradients(state.params, state.tables, BATCH)
        optimizer = dense_optimizer(self.OTHERS, NUM_STEPS)
        updates, _ = factories.jit(optimizer.update)(gradients, state.opt_state, state.params)
        expected = jax.tree.map(lambda p, u: np.asarray(p) + np.asarray(u), state.params, updates)
        chex.assert_trees_all_close(got.params, expected, rtol=1e-4, atol=2e-4)
        # Of Adagrad's first step, the rate is a factor: here three times what it was.
        for name, table in state.tables.items():
            once, thrice = (np.asarray(x.tables[name]) - np.asarray(table) for x in (after, got))
            np.testing.assert_allclose(thrice, 3 * once, rtol=1e-3, atol=1e-5)

    def test_are_no_part_of_the_program(self, state):
        def program(settings):
            config = dataclasses.replace(CONFIG, optimizer=settings)
            step = make_train_step(KUNLUN, factories.SCHEMA, config, num_steps=NUM_STEPS)
            lowered = jax.jit(step).lower(state, BATCH, OptimizerArguments.of(settings))
            return lowered.as_text()

        assert program(CONFIG.optimizer) == program(self.OTHERS)


class TestNarrowTables:
    """Tables in bfloat16; everything else in float32."""

    NARROW = dataclasses.replace(
        CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, table_dtype="bfloat16")
    )
    step = staticmethod(
        factories.jit(make_train_step(KUNLUN, factories.SCHEMA, NARROW, num_steps=NUM_STEPS))
    )

    def test_differ_from_wide_ones_by_their_rounding_and_repeat(self, state, after):
        shapes = jax.eval_shape(
            lambda: create_train_state(KUNLUN, self.NARROW, BATCH, num_steps=NUM_STEPS)
        )
        narrow = jax.tree.map(lambda x, like: x.astype(like.dtype), state, shapes)
        assert {t.dtype for t in narrow.tables.values()} == {jnp.dtype("bfloat16")}
        assert {a.dtype for a in narrow.accumulators.values()} == {jnp.dtype("float32")}
        got = self.step(narrow, BATCH)
        for name, table in got.tables.items():
            assert table.dtype == jnp.bfloat16
            moved = np.any(np.asarray(table != narrow.tables[name]), axis=1)
            expected = np.any(np.asarray(after.tables[name] != state.tables[name]), axis=1)
            # A row of a small gradient may be rounded back to what it was.
            assert not np.any(moved & ~expected)
            assert np.sum(moved) > 0.5 * np.sum(expected)
        np.testing.assert_allclose(
            got.tables["item"].astype(jnp.float32), after.tables["item"], rtol=0.02, atol=0.02
        )
        assert_equal_states(self.step(narrow, BATCH), got)


def test_eval_step_returns_the_logits_of_the_model_and_updates_the_metrics(state):
    start = binary_metrics.init(2)
    updated, logits, moments = eval_step(state.params, state.tables, start, BATCH)
    assert not moments  # nobody asked for them
    *_, expected = dense_gradients(state.params, state.tables, BATCH)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    by_hand = binary_metrics.update(
        start, logits=logits, labels=BATCH.labels, weights=BATCH.weights
    )
    chex.assert_trees_all_close(updated, by_hand, rtol=1e-5, atol=1e-6)
