import math

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from kunlun_jax.config import MeshConfig
from kunlun_jax.data import BatchSource, Dataset, make_train_iterator
from kunlun_jax.metrics.binary_metrics import binary_entropy
from kunlun_jax.sharding import make_mesh
from kunlun_jax.training.evaluation import Evaluator, Predictor
from kunlun_jax.training.step import make_eval_step
from tests import factories
from tests.data import toy
from tests.training import linear

TASKS = toy.SCHEMA.labels
LABEL_RATES = [0.3, 0.2]


def batches(dataset, batch_size, split="validation", **options):
    return BatchSource(
        dataset, split=split, batch_size=batch_size, max_lens=toy.MAX_LENS, shuffle=False, **options
    )


@pytest.fixture(scope="module")
def evaluator():
    return Evaluator(
        linear.eval_step, make_mesh(MeshConfig()), label_rates=LABEL_RATES, tasks=TASKS
    )


@pytest.fixture(scope="module")
def model():
    state = linear.initial_state()
    rng = np.random.default_rng(0)
    params = {
        "kernel": rng.normal(size=state.params["kernel"].shape).astype(np.float32),
        "bias": np.full(1, -0.5, np.float32),
    }
    tables = {"item": rng.normal(size=state.tables["item"].shape).astype(np.float32)}
    state = state.replace(params=params, tables=tables)
    return linear.jax.device_put((state.params, state.tables))


@pytest.fixture(scope="module")
def examples(dataset, model):
    """Logits, labels, weights and users of the whole split, in one piece."""
    (batch,) = make_train_iterator(batches(dataset, toy.Options().num_eval))
    return np.asarray(linear.logits(*model, batch), np.float64), batch


class TestEvaluate:
    def test_agrees_with_scikit_learn(self, dataset, evaluator, model, examples):
        logits, batch = examples
        result = evaluator.evaluate(*model, batches(dataset, 8))
        for i, task in enumerate(TASKS):
            labels, weights = batch.labels[:, i], batch.weights
            loss = log_loss(labels, 1 / (1 + np.exp(-logits[:, i])), sample_weight=weights)
            entropy = loss / binary_entropy(LABEL_RATES[i])
            assert result[f"{task}/normalized_entropy"] == pytest.approx(entropy, rel=1e-6)
            auc = roc_auc_score(labels, logits[:, i], sample_weight=weights)
            assert result[f"{task}/auc_roc"] == pytest.approx(auc, rel=1e-12)
            assert f"{task}/auc_roc_margin" not in result
            assert result[f"{task}/count"] == toy.Options().num_eval

    @pytest.mark.parametrize("scale", [1e-3, 1e-6])
    @pytest.mark.parametrize("bias", [0.0, -3.0])
    def test_auc_of_logits_that_lie_close_together(self, dataset, evaluator, model, scale, bias):
        (params, tables), size = model, toy.Options().num_eval
        near = linear.jax.tree.map(lambda x: scale * x, (params, tables))
        near[0]["bias"] = linear.jnp.full(1, bias)
        (batch,) = make_train_iterator(batches(dataset, size))
        logits = np.asarray(linear.logits(*near, batch), np.float64)
        assert np.ptp(logits) < 20 * scale
        for batch_size in (5, size):
            result = evaluator.evaluate(*near, batches(dataset, batch_size))
            for i, task in enumerate(TASKS):
                auc = roc_auc_score(batch.labels[:, i], logits[:, i], sample_weight=batch.weights)
                assert result[f"{task}/auc_roc"] == pytest.approx(auc, rel=1e-12)

    def test_gauc_is_the_mean_of_the_users(self, dataset, evaluator, model, examples):
        logits, batch = examples
        result = evaluator.evaluate(*model, batches(dataset, 8))
        for i, task in enumerate(TASKS):
            total = share = 0.0
            for user in np.unique(batch.user_ids):
                rows = batch.user_ids == user
                labels, weights = batch.labels[rows, i], batch.weights[rows].astype(np.float64)
                if len(np.unique(labels)) == 2:
                    auc = roc_auc_score(labels, logits[rows, i], sample_weight=weights)
                    total, share = total + auc * weights.sum(), share + weights.sum()
            assert result[f"{task}/gauc"] == pytest.approx(total / share, rel=1e-12)

    @pytest.mark.parametrize("batch_size", [1, 5, 36, 37, 64])
    def test_does_not_depend_on_the_batch_size(self, dataset, evaluator, model, batch_size):
        expected = evaluator.evaluate(*model, batches(dataset, 8))
        result = evaluator.evaluate(*model, batches(dataset, batch_size))
        assert result.keys() == expected.keys()
        for key, value in result.items():
            assert value == pytest.approx(expected[key], rel=1e-9, nan_ok=True), key

    @pytest.mark.parametrize("batch_size", [3, 12])
    def test_does_not_depend_on_the_parts_of_the_data(self, dataset, evaluator, model, batch_size):
        whole = evaluator.evaluate(*model, batches(dataset, 10))
        parted = Dataset.open(dataset.directory, num_parts=3)
        result = evaluator.evaluate(*model, batches(parted, batch_size))
        assert result == {key: pytest.approx(value, rel=1e-6) for key, value in whole.items()}
        for task in TASKS:
            assert result[f"{task}/count"] == toy.Options().num_eval
            for metric in ("auc_roc", "gauc"):  # of the same scores, in any order
                assert result[f"{task}/{metric}"] == whole[f"{task}/{metric}"]

    def test_counts_and_leaves_out_what_is_not_finite(self, dataset, evaluator, model):
        params, tables = model
        broken = np.array(tables["item"])
        broken[3] = np.nan
        source = batches(dataset, 8)
        result = evaluator.evaluate(params, {"item": linear.jnp.asarray(broken)}, source)
        count = int((dataset.splits["validation"].sparse["item"][:, 0] == 3).sum())
        assert count > 0
        for task in TASKS:
            assert result[f"{task}/num_nonfinite"] == count
            assert math.isfinite(result[f"{task}/normalized_entropy"])

    def test_a_subset_is_the_same_for_every_batch_size(self, dataset, evaluator, model):
        results = [
            evaluator.evaluate(*model, batches(dataset, size, max_examples=20)) for size in (4, 20)
        ]
        assert results[0]["click/count"] == results[1]["click/count"] == 20
        assert results[0]["normalized_entropy"] == pytest.approx(
            results[1]["normalized_entropy"], rel=1e-9
        )


def test_a_prediction_does_not_depend_on_its_place():
    """In no bit; of 128 examples, the last eight would otherwise differ on CPUs with AVX."""
    model, batch = factories.kunlun(), factories.batch(size=128)
    variables = factories.drawn_variables(model, batch)
    given = variables["params"], variables["tables"]["embedding"]
    predictor = Predictor(make_eval_step(model), make_mesh(MeshConfig()), 2)
    expected = predictor.scores(*given, [batch]).logits
    assert len(np.unique(expected)) > 100
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(128)
        shuffled = jax.tree.map(lambda x, order=order: np.asarray(x)[order], batch)
        np.testing.assert_array_equal(predictor.scores(*given, [shuffled]).logits, expected[order])
