import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from kunlun_jax.data.label_rates import label_rates, label_weights
from kunlun_jax.data.tables import Examples
from kunlun_jax.metrics import binary_metrics

RATE = 0.2
update = jax.jit(binary_metrics.update)


def predictions(size, *, num_tasks=1, spread=1.0, seed=0):
    """Logits with some relation to the labels, at a click rate of about 0.2."""
    random = np.random.default_rng(seed)
    truth = random.normal(-1.6, spread, (size, num_tasks))
    labels = (random.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    logits = (truth + random.normal(0, spread, truth.shape)).astype(np.float32)
    return logits, labels, np.ones(size, np.float32)


def state_of(logits, labels, weights, batch_size=None):
    batch_size = batch_size or len(weights)
    state = binary_metrics.init(logits.shape[1])
    for start in range(0, len(weights), batch_size):
        rows = slice(start, start + batch_size)
        state = update(
            state,
            logits=jnp.asarray(logits[rows]),
            labels=jnp.asarray(labels[rows]),
            weights=jnp.asarray(weights[rows]),
        )
    return state


def measured(logits, labels, weights=None, batch_size=None, label_rate=RATE, **options):
    """Accumulate and compute; every weight is 1 by default."""
    weights = np.ones(len(labels), np.float32) if weights is None else weights
    state = state_of(logits, labels, weights, batch_size)
    return binary_metrics.compute(state, label_rate=label_rate, **options)


def column(*values):
    return np.asarray(values, np.float32)[:, None]


def assert_same(a, b, relative=1e-6):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key] == pytest.approx(b[key], rel=relative, abs=1e-12, nan_ok=True), key


class TestBinaryCrossEntropy:
    def test_equals_the_formula(self):
        logits = np.asarray([-3.0, -0.5, 0.0, 2.0], np.float32)
        labels = np.asarray([0.0, 1.0, 0.3, 1.0], np.float32)
        p = 1 / (1 + np.exp(-logits.astype(np.float64)))
        expected = -labels * np.log(p) - (1 - labels) * np.log(1 - p)
        actual = binary_metrics.binary_cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
        np.testing.assert_allclose(actual, expected, rtol=1e-6)

    def test_is_accurate_in_both_tails(self):
        logits = jnp.asarray([1e4, -1e4, 60.0, -60.0])
        right = binary_metrics.binary_cross_entropy(logits, jnp.asarray([1.0, 0.0, 1.0, 0.0]))
        wrong = binary_metrics.binary_cross_entropy(logits, jnp.asarray([0.0, 1.0, 0.0, 1.0]))
        np.testing.assert_allclose(right, [0, 0, math.exp(-60), math.exp(-60)], rtol=1e-5)
        np.testing.assert_allclose(wrong, [1e4, 1e4, 60, 60], rtol=1e-6)

    def test_gradient_is_probability_minus_label(self):
        logits = jnp.asarray([-200.0, -1.0, 0.0, 1.0, 200.0])
        for label in (0.0, 1.0):
            labels = jnp.full_like(logits, label)
            gradient = jax.grad(lambda z, y=labels: binary_metrics.binary_cross_entropy(z, y).sum())
            np.testing.assert_allclose(
                gradient(logits), jax.nn.sigmoid(logits) - label, rtol=1e-6, atol=1e-7
            )

    def test_takes_bfloat16(self):
        logits = jnp.asarray([0.5], jnp.bfloat16)
        assert binary_metrics.binary_cross_entropy(logits, jnp.ones(1)).dtype == jnp.float32


class TestBinaryEntropy:
    def test_hand_computed(self):
        assert binary_metrics.binary_entropy(0.5) == pytest.approx(math.log(2))
        assert binary_metrics.binary_entropy(0.2) == pytest.approx(0.5004024235)
        assert binary_metrics.binary_entropy(0.0) == binary_metrics.binary_entropy(1.0) == 0.0

    @pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan])
    def test_refuses_what_is_no_rate(self, rate):
        with pytest.raises(ValueError, match="expected a rate"):
            binary_metrics.binary_entropy(rate)


class TestCompute:
    def test_normalized_entropy_of_the_constant_label_rate_is_one(self):
        labels = column(1, 0, 0, 0, 0)
        logits = np.full_like(labels, math.log(0.2 / 0.8))
        values = measured(logits, labels, label_rate=0.2)
        assert values["normalized_entropy"] == pytest.approx(1.0, rel=1e-6)
        assert values["normalized_entropy_eval"] == pytest.approx(1.0, rel=1e-6)
        assert values["auc_roc"] == 0.5
        assert values["calibration"] == pytest.approx(1.0, rel=1e-6)
        assert values["ece"] == pytest.approx(0.0, abs=1e-7)

    def test_hand_computed(self):
        # Probabilities 0.75, 0.25, 0.5; labels 1, 0, 0.
        logits, labels = column(math.log(3), -math.log(3), 0), column(1, 0, 0)
        values = measured(logits, labels, label_rate=0.5)
        log_loss = (2 * math.log(4 / 3) + math.log(2)) / 3
        third = (3 * math.log(3) - 2 * math.log(2)) / 3
        expected = {
            "normalized_entropy": log_loss / math.log(2),
            "normalized_entropy_eval": log_loss / third,
            "auc_roc": 1.0,
            "auc_roc_margin": 0.0,
            "log_loss": log_loss,
            "calibration": 1.5,
            "ece": (0.25 + 0.25 + 0.5) / 3,
            "count": 3.0,
            "weight": 3.0,
            "num_nonfinite": 0.0,
        }
        assert_same(values, expected)

    @pytest.mark.parametrize("spread", [0.1, 0.3, 1.0, 4.0])
    def test_agrees_with_scikit_learn(self, spread):
        logits, labels, weights = predictions(40_000, spread=spread)
        values = measured(logits, labels, weights, 4096)
        y, z = labels[:, 0], logits[:, 0].astype(np.float64)
        p = 1 / (1 + np.exp(-z))
        assert values["auc_roc"] == pytest.approx(sklearn_metrics.roc_auc_score(y, z), abs=5e-5)
        assert values["log_loss"] == pytest.approx(sklearn_metrics.log_loss(y, p), rel=1e-6)
        bins = np.minimum((p * 15).astype(int), 14)
        ece = sum(abs(p[bins == b].sum() - y[bins == b].sum()) for b in range(15)) / len(y)
        assert values["ece"] == pytest.approx(ece, rel=1e-4)

    @pytest.mark.parametrize("rate", [0.004, 0.028])
    def test_auc_at_low_click_rates(self, rate):
        random = np.random.default_rng(1)
        labels = (random.random((200_000, 1)) < rate).astype(np.float32)
        offset = math.log(rate / (1 - rate))
        logits = (offset + random.normal(labels, 1.0)).astype(np.float32)
        values = measured(logits, labels, label_rate=rate)
        exact = sklearn_metrics.roc_auc_score(labels[:, 0], logits[:, 0])
        assert values["auc_roc"] == pytest.approx(exact, abs=5e-5)

    def test_fractional_weights(self):
        logits, labels, _ = predictions(5_000)
        weights = np.random.default_rng(2).uniform(0.1, 3.0, 5_000).astype(np.float32)
        values = measured(logits, labels, weights, 512)
        y, z = labels[:, 0], logits[:, 0].astype(np.float64)
        auc = sklearn_metrics.roc_auc_score(y, z, sample_weight=weights)
        loss = sklearn_metrics.log_loss(y, 1 / (1 + np.exp(-z)), sample_weight=weights)
        assert values["auc_roc"] == pytest.approx(auc, abs=5e-5)
        assert values["log_loss"] == pytest.approx(loss, rel=1e-6)
        assert values["weight"] == pytest.approx(weights.sum(dtype=np.float64), rel=1e-9)

    def test_ties_count_one_half(self):
        logits, labels = column(1, 1, 0, 0, 2), column(1, 0, 1, 0, 1)
        values = measured(logits, labels, label_rate=0.5)
        assert values["auc_roc"] == sklearn_metrics.roc_auc_score(labels[:, 0], logits[:, 0])

    @pytest.mark.parametrize("center", [0.0, -3.0, -8.0])
    @pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-3, 1e-4, 0.0])
    def test_auc_is_within_its_margin(self, center, scale):
        logits, labels, _ = predictions(5_000)
        logits = (center + scale * logits).astype(np.float32)
        weights = np.random.default_rng(3).uniform(0.1, 3.0, 5_000).astype(np.float32)
        values = measured(logits, labels, weights)
        y, z = labels[:, 0], logits[:, 0]
        exact = sklearn_metrics.roc_auc_score(y, z, sample_weight=weights)
        assert abs(values["auc_roc"] - exact) <= values["auc_roc_margin"] + 1e-6
        if scale == 1.0:
            assert values["auc_roc_margin"] < 1e-3

    @pytest.mark.parametrize("label", [0.0, 1.0])
    def test_single_class(self, label):
        logits = column(-1, 0, 1)
        values = measured(logits, np.full_like(logits, label))
        assert math.isnan(values["auc_roc"])
        assert math.isnan(values["normalized_entropy_eval"])
        assert math.isnan(values["calibration"]) == (label == 0.0)
        assert math.isfinite(values["normalized_entropy"])

    def test_nothing_seen(self):
        values = binary_metrics.compute(binary_metrics.init(), label_rate=RATE)
        assert values.pop("count") == values.pop("weight") == values.pop("num_nonfinite") == 0.0
        assert all(math.isnan(value) for value in values.values())

    @pytest.mark.parametrize("rate", [0.0, 1.0, math.nan])
    def test_refuses_a_label_rate_without_entropy(self, rate):
        with pytest.raises(ValueError, match="expected a label rate in"):
            binary_metrics.compute(binary_metrics.init(), label_rate=rate)


class TestTasks:
    def test_several_tasks(self):
        logits, labels, weights = predictions(1_000, num_tasks=2)
        rates, names = (0.2, 0.3), ("click", "buy")
        values = measured(logits, labels, weights, 300, label_rate=rates, tasks=names)
        for task, (rate, name) in enumerate(zip(rates, names, strict=True)):
            alone = measured(logits[:, [task]], labels[:, [task]], weights, label_rate=rate)
            assert_same({key: values[f"{name}/{key}"] for key in alone}, alone)
        mean = (values["click/normalized_entropy"] + values["buy/normalized_entropy"]) / 2
        assert values["normalized_entropy"] == pytest.approx(mean)

    def test_the_mean_over_tasks_takes_their_weights(self):
        logits, labels, weights = predictions(1_000, num_tasks=3)
        names, shares = ("click", "buy", "like"), (1.0, 3.0, 0.0)
        logits[0, 2] = np.nan  # of weight 0
        values = measured(
            logits, labels, weights, label_rate=(0.2, 0.3, 0.4), tasks=names, task_weights=shares
        )
        click, buy, _ = (values[f"{name}/normalized_entropy"] for name in names)
        assert values["normalized_entropy"] == pytest.approx((click + 3 * buy) / 4, rel=1e-12)

    @settings(derandomize=True, deadline=None, max_examples=30)
    @given(
        seed=st.integers(0, 2**16),
        num_tasks=st.integers(1, 3),
        negatives=st.sampled_from([0.05, 1.0, 20.0, 1e4]),
        zeros=st.sampled_from([0.0, 0.5]),
    )
    def test_the_best_constant_has_entropy_one_under_any_weights(
        self, seed, num_tasks, negatives, zeros
    ):
        random = np.random.default_rng(seed)
        labels = (random.random((400, num_tasks)) < 0.4).astype(np.float32)
        weights = np.where(labels[:, 0] > 0, 1.0, negatives) * random.uniform(0.5, 2.0, 400)
        weights[random.random(400) < zeros] = 0.0
        examples = Examples(
            *(np.zeros(400, np.int64),) * 2, labels, weights.astype(np.float32), labels, {}, {}, {}
        )
        names = tuple("abc"[:num_tasks])
        rates = list(label_rates(*label_weights(examples), names).values())
        w, y = examples.weights.astype(np.float64), labels.astype(np.float64)
        np.testing.assert_allclose(rates, (w @ y) / w.sum(), rtol=1e-12)
        logits = np.tile(np.log(rates) - np.log1p(-np.array(rates)), (400, 1)).astype(np.float32)
        values = measured(logits, labels, examples.weights, 64, label_rate=rates, tasks=names)
        for prefix in ["", *(f"{name}/" for name in names if num_tasks > 1)]:
            assert values[f"{prefix}normalized_entropy"] == pytest.approx(1.0, rel=2e-6)
        for task, rate in enumerate(rates):
            loss = sklearn_metrics.log_loss(y[:, task], np.full(400, rate), sample_weight=w)
            prefix = f"{names[task]}/" if num_tasks > 1 else ""
            assert values[f"{prefix}log_loss"] == pytest.approx(loss, rel=2e-6)

    def test_refuses_tasks_it_cannot_name(self):
        with pytest.raises(ValueError, match="expected the names of 2 tasks"):
            binary_metrics.compute(binary_metrics.init(2), label_rate=RATE)
        with pytest.raises(ValueError, match="expected 1 or 2 label rates, got 3"):
            binary_metrics.compute(
                binary_metrics.init(2), label_rate=(0.1, 0.2, 0.3), tasks=("a", "b")
            )


class TestUpdate:
    def test_does_not_depend_on_the_batch_size(self):
        logits, labels, weights = predictions(10_000, spread=2.0)
        whole = measured(logits, labels, weights)
        for batch_size in (1_000, 777, 64):
            parts = measured(logits, labels, weights, batch_size)
            assert_same(parts, whole, relative=1e-9)

    def test_merged_equals_whole(self):
        logits, labels, weights = predictions(9_000)
        whole = measured(logits, labels, weights)
        cuts = [slice(0, 100), slice(100, 5_000), slice(5_000, None)]
        first, *others = (state_of(logits[c], labels[c], weights[c]) for c in cuts)
        for other in others:
            first = jax.jit(binary_metrics.merge)(first, other)
        assert_same(binary_metrics.compute(first, label_rate=RATE), whole, relative=1e-9)

    def test_counts_beyond_float32(self):
        """2^24 + 1 is the first integer that float32 lacks; 2^30 examples are seen here."""
        logits, labels, weights = predictions(1_000, spread=2.0)
        small = state = state_of(logits, labels, weights)
        for _ in range(20):
            state = jax.jit(binary_metrics.merge)(state, state)
        for _ in range(3):
            state = jax.jit(binary_metrics.merge)(state, small)
        values = binary_metrics.compute(state, label_rate=RATE)
        assert values["count"] == values["weight"] == 1_000 * 2**20 + 3_000
        once = binary_metrics.compute(small, label_rate=RATE)
        for key in ("log_loss", "auc_roc", "calibration", "ece"):
            assert values[key] == pytest.approx(once[key], rel=1e-9)

    def test_many_small_additions(self):
        """A float32 sum of 300,000 equal losses is off by more than 1e-5."""
        logits, labels, weights = column(-1.6), column(0), np.ones(1, np.float32)
        batch = jax.tree.map(jnp.asarray, {"logits": logits, "labels": labels, "weights": weights})
        state = jax.jit(
            lambda state: jax.lax.fori_loop(
                0, 300_000, lambda _, s: binary_metrics.update(s, **batch), state
            )
        )(binary_metrics.init(num_auc_bins=16))
        once = measured(logits, labels, weights)
        values = binary_metrics.compute(state, label_rate=RATE)
        assert values["log_loss"] == pytest.approx(once["log_loss"], rel=1e-10)

    def test_weight_zero_changes_nothing(self):
        logits, labels, weights = predictions(1_000)
        garbage = np.asarray([[np.nan], [np.inf], [5.0]], np.float32)
        padded = measured(
            np.concatenate([logits, garbage]),
            np.concatenate([labels, np.full_like(garbage, np.nan)]),
            np.concatenate([weights, np.zeros(3, np.float32)]),
        )
        assert_same(padded, measured(logits, labels, weights), relative=1e-9)

    def test_nonfinite_logits_are_counted_and_left_out(self):
        logits, labels, weights = predictions(100)
        broken = np.concatenate([logits, column(np.nan, np.inf, -np.inf)])
        values = measured(broken, np.concatenate([labels, column(1, 0, 1)]))
        plain = measured(logits, labels, weights)
        assert values["num_nonfinite"] == 3
        assert_same({**values, "num_nonfinite": 0.0}, plain, relative=1e-9)

    def test_extreme_finite_logits(self):
        logits, labels = column(-3e38, -1e4, 1e4, 3e38), column(0, 0, 1, 1)
        values = measured(logits, labels, label_rate=0.5)
        assert (values["auc_roc"], values["log_loss"], values["count"]) == (1.0, 0.0, 4.0)

    def test_takes_bfloat16_logits(self):
        state = binary_metrics.update(
            binary_metrics.init(),
            logits=jnp.ones((4, 1), jnp.bfloat16),
            labels=jnp.ones((4, 1)),
            weights=jnp.ones(4),
        )
        assert binary_metrics.compute(state, label_rate=RATE)["count"] == 4
