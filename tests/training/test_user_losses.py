import numpy as np
import pytest
from sklearn.metrics import log_loss

from kunlun_jax.training.grouped_auc import UserScores
from kunlun_jax.training.user_losses import USER_LOSSES_FILE, UserLosses
from kunlun_jax.training.workdir import WorkdirError

RATES = [0.3, 0.6]


@pytest.fixture
def columns():
    generator = np.random.default_rng(0)
    return {
        "user_ids": generator.choice([3, 5, 11], 40),
        "logits": generator.normal(0, 2, (40, 2)).astype(np.float32),
        "labels": generator.integers(0, 2, (40, 2)).astype(np.float32),
        "weights": generator.uniform(0.5, 2, 40).astype(np.float32),
    }


def losses_of(columns, *cuts):
    """Return the losses of the examples, handed over in parts."""
    scores = UserScores()
    for part in zip(*(np.split(column, cuts) for column in columns.values()), strict=True):
        scores.append(**dict(zip(columns, part, strict=True)))
    return UserLosses.of(scores, RATES)


def test_sums_by_user_and_task(columns):
    found = losses_of(columns)
    assert found.user_ids.tolist() == [3, 5, 11]
    probabilities = 1 / (1 + np.exp(-columns["logits"].astype(np.float64)))
    for row, user in enumerate(found.user_ids):
        own = columns["user_ids"] == user
        weights = columns["weights"][own]
        assert found.weights[row] == pytest.approx(weights.sum(), rel=1e-6)
        for task in range(2):
            expected = log_loss(
                columns["labels"][own, task],
                probabilities[own, task],
                sample_weight=weights,
                normalize=False,
            )
            assert found.losses[row, task] == pytest.approx(expected, rel=1e-6)


def test_normalized_is_the_mean_over_tasks_of_loss_over_entropy(columns):
    found = losses_of(columns)
    rates = np.array(RATES)
    entropies = -rates * np.log(rates) - (1 - rates) * np.log(1 - rates)
    np.testing.assert_allclose(found.normalized, (found.losses / entropies).mean(1))


def test_does_not_depend_on_how_the_split_is_cut(columns):
    whole, parts = losses_of(columns), losses_of(columns, 7, 8, 30)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-12)


def test_padding_and_broken_logits_are_left_out(columns):
    kept = {name: column[:30] for name, column in columns.items()}
    columns["weights"][30:35] = 0.0
    columns["logits"][35:, 1] = np.nan
    np.testing.assert_allclose(losses_of(columns).losses, losses_of(kept).losses, rtol=1e-12)


def test_large_logits_are_exact():
    scores = UserScores()
    scores.append(
        user_ids=np.array([1, 1]),
        logits=np.array([[200.0], [-300.0]], np.float32),
        labels=np.array([[0.0], [1.0]], np.float32),
        weights=np.ones(2, np.float32),
    )
    assert UserLosses.of(scores, [0.5]).losses.tolist() == [[500.0]]


def test_kept_and_read_again(columns, tmp_path):
    found = losses_of(columns)
    found.save(tmp_path)
    again = UserLosses.load(tmp_path)
    for name in ("user_ids", "losses", "weights", "label_rates"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert [path.name for path in tmp_path.iterdir()] == [USER_LOSSES_FILE]


@pytest.mark.parametrize("content", [None, b"", b"PK not an archive"])
def test_missing_or_damaged(tmp_path, content):
    if content is not None:
        (tmp_path / USER_LOSSES_FILE).write_bytes(content)
    with pytest.raises(WorkdirError, match=USER_LOSSES_FILE):
        UserLosses.load(tmp_path)
