import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kunlun_jax.metrics.grouped_auc import UserScores, grouped_auc


def oracle(user_ids, scores, labels, weights):
    """The definition, one user at a time."""
    total = share = 0.0
    for user in np.unique(user_ids):
        rows = (user_ids == user) & (weights > 0)
        if len(np.unique(labels[rows])) == 2:
            auc = roc_auc_score(labels[rows], scores[rows], sample_weight=weights[rows])
            total += weights[rows].sum() * auc
            share += weights[rows].sum()
    return total / share


def random_examples(size=5_000, users=300, levels=8, seed=0):
    """Few score levels, so that most users have ties; some users have one class only."""
    random = np.random.default_rng(seed)
    user_ids = random.integers(0, users, size).astype(np.int32)
    labels = (random.random(size) < 0.05 + 0.3 * (user_ids % 3 == 0)).astype(np.float32)
    scores = (random.integers(0, levels, size) + labels).astype(np.float32)
    return user_ids, scores, labels


class TestGroupedAuc:
    @pytest.mark.parametrize("levels", [2, 8, 10_000])
    def test_agrees_with_scikit_learn_per_user(self, levels):
        user_ids, scores, labels = random_examples(levels=levels)
        weights = np.ones(len(labels))
        expected = oracle(user_ids, scores, labels, weights)
        assert grouped_auc(user_ids, scores, labels) == pytest.approx(expected, rel=1e-12)

    def test_fractional_and_zero_weights(self):
        user_ids, scores, labels = random_examples(size=2_000)
        weights = np.random.default_rng(1).uniform(0, 2, 2_000)
        weights[::7] = 0
        expected = oracle(user_ids, scores, labels, weights)
        assert grouped_auc(user_ids, scores, labels, weights) == pytest.approx(expected, rel=1e-12)

    def test_hand_computed(self):
        # User 0: AUC 1/2 of 3 impressions (a tie and a win over two pairs is 3/4); user 1: AUC 0
        # of 2; user 2 has one class.
        user_ids = np.asarray([0, 1, 0, 2, 0, 1])
        scores = np.asarray([0.5, 0.1, 0.5, 0.9, 0.2, 0.3])
        labels = np.asarray([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
        assert grouped_auc(user_ids, scores, labels) == pytest.approx((3 * 0.75 + 2 * 0.0) / 5)

    def test_one_user_is_plain_auc(self):
        _, scores, labels = random_examples()
        actual = grouped_auc(np.zeros(len(labels), np.int64), scores, labels)
        assert actual == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)

    def test_nonfinite_scores_are_left_out(self):
        user_ids, scores, labels = random_examples(size=500, users=20)
        expected = grouped_auc(user_ids, scores, labels)
        actual = grouped_auc(
            np.append(user_ids, [3, 4]),
            np.append(scores, [np.nan, np.inf]),
            np.append(labels, [1, 0]),
        )
        assert actual == expected

    def test_no_user_with_both_classes(self):
        assert math.isnan(grouped_auc(np.arange(3), np.zeros(3), np.asarray([0.0, 1.0, 1.0])))
        assert math.isnan(grouped_auc(np.zeros(0, int), np.zeros(0), np.zeros(0)))

    def test_refuses_columns_of_different_lengths(self):
        with pytest.raises(ValueError, match=r"of one length, got \[2, 3, 2, 2\]"):
            grouped_auc(np.zeros(2, int), np.zeros(3), np.zeros(2))


class TestUserScores:
    def fill(self, rows, batch_size):
        user_ids, scores, labels = random_examples()
        collected = UserScores()
        for start in range(rows.start, rows.stop, batch_size):
            batch = slice(start, min(start + batch_size, rows.stop))
            padding = batch_size - (batch.stop - batch.start)
            collected.append(
                user_ids=np.pad(user_ids[batch], (0, padding)),
                logits=np.pad(scores[batch], (0, padding), constant_values=np.nan)[:, None],
                labels=np.pad(labels[batch], (0, padding))[:, None],
                weights=np.pad(np.ones(batch.stop - batch.start, np.float32), (0, padding)),
            )
        return collected

    def test_does_not_depend_on_batches_or_on_merging(self):
        expected = grouped_auc(*random_examples())
        assert self.fill(range(5_000), 512).grouped_auc() == expected
        merged = self.fill(range(1_234), 100).merged(self.fill(range(1_234, 5_000), 999))
        assert merged.grouped_auc() == expected

    def test_nothing_collected(self):
        assert math.isnan(UserScores().grouped_auc())
