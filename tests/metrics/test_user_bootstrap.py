import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kunlun_jax.metrics.user_bootstrap import ComparisonError, UserBootstrap, auc_roc, estimate


def random_examples(size=300, users=12, seed=0):
    """User ids without order or gaps' meaning, scores with ties, labels, weights."""
    rng = np.random.default_rng(seed)
    user_ids = 7 * rng.integers(users, size=size) + 3
    labels = (rng.random(size) < 0.3).astype(np.float32)
    scores = np.round(rng.normal(size=size) + labels, 1).astype(np.float32)
    return user_ids, scores, labels, rng.choice([0.5, 1.0, 2.0], size)


def copies(user_ids, counts):
    """Rows of the examples, each as often as its user was drawn."""
    drawn = dict(zip(np.unique(user_ids), counts.astype(int), strict=True))
    return np.array([i for i, user in enumerate(user_ids) for _ in range(drawn[user])])


class TestUserBootstrap:
    def test_every_resample_draws_as_many_users_as_there_are(self):
        bootstrap = UserBootstrap(random_examples()[0], num_resamples=50)
        counts = np.array(list(bootstrap.counts()))
        assert counts.shape == (50, 12)
        assert (counts.sum(axis=1) == 12).all()
        assert counts.std() == pytest.approx(np.sqrt(11 / 12), rel=0.1)

    def test_draws_the_same_again_for_a_seed_only(self):
        users = random_examples()[0]
        first, again, other = (
            np.array(list(UserBootstrap(users, num_resamples=5, seed=seed).counts()))
            for seed in (1, 1, 2)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_means_against_a_loop(self):
        user_ids, scores, _, weights = random_examples()
        bootstrap = UserBootstrap(user_ids, num_resamples=20)
        result = bootstrap.means(scores, weights)
        for actual, counts in zip(result, bootstrap.counts(), strict=True):
            rows = copies(user_ids, counts)
            assert actual == pytest.approx(np.average(scores[rows], weights=weights[rows]))

    def test_means_of_columns(self):
        user_ids, scores, labels, weights = random_examples()
        bootstrap = UserBootstrap(user_ids, num_resamples=20)
        result = bootstrap.means(np.stack([scores, labels], axis=1), weights)
        assert result.shape == (20, 2)
        np.testing.assert_allclose(result[:, 0], bootstrap.means(scores, weights))
        np.testing.assert_allclose(result[:, 1], bootstrap.means(labels, weights))

    def test_aucs_against_a_loop(self):
        user_ids, scores, labels, weights = random_examples()
        bootstrap = UserBootstrap(user_ids, num_resamples=20)
        result = bootstrap.aucs(scores, labels, weights)
        for actual, counts in zip(result, bootstrap.counts(), strict=True):
            rows = copies(user_ids, counts)
            expected = roc_auc_score(labels[rows], scores[rows], sample_weight=weights[rows])
            assert actual == pytest.approx(expected, rel=1e-12)

    def test_a_resample_of_one_class_has_no_auc(self):
        bootstrap = UserBootstrap(np.array([0, 1]), num_resamples=40)
        aucs = bootstrap.aucs(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.ones(2))
        single = np.array([counts.max() == 2 for counts in bootstrap.counts()])
        assert 0 < single.sum() < 40
        assert np.array_equal(np.isnan(aucs), single)
        assert (aucs[~single] == 1.0).all()

    @pytest.mark.parametrize(("users", "resamples"), [([4, 4], 10), ([], 10), ([1, 2], 0)])
    def test_refuses_too_little(self, users, resamples):
        with pytest.raises(ComparisonError, match="at least 2 users and 1 resample, got"):
            UserBootstrap(np.array(users, np.int64), num_resamples=resamples)


class TestAuc:
    def test_against_scikit_learn(self):
        _, scores, labels, weights = random_examples()
        expected = roc_auc_score(labels, scores, sample_weight=weights)
        assert auc_roc(scores, labels, weights) == pytest.approx(expected, rel=1e-12)

    def test_of_one_class(self):
        assert np.isnan(auc_roc(np.arange(3.0), np.ones(3), np.ones(3)))


class TestEstimate:
    def test_by_hand(self):
        found = estimate(2.5, np.append(np.arange(-1.0, 99.0), np.nan), confidence=0.9)
        assert found.value == 2.5
        assert (found.low, found.high) == pytest.approx((3.95, 93.05))
        assert found.p_value == pytest.approx(2 * 3 / 101)  # -1 and 0, and one more

    @pytest.mark.parametrize("shift", [-0.5, 0.0, 3.0])
    def test_p_value_and_interval_agree(self, shift):
        resampled = np.random.default_rng(0).normal(shift, 1, 5000)
        found = estimate(shift, resampled)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        assert found.p_value <= 1.0

    def test_refuses_when_nothing_is_defined(self):
        with pytest.raises(ComparisonError, match="both labels, got none"):
            estimate(0.0, np.full(3, np.nan))


def coverage(statistic, truth, *, worlds=200, users=60, per_user=8):
    """Share of simulated data sets whose 95 % interval holds the truth; users differ a lot."""
    rng = np.random.default_rng(0)
    held = 0
    for world in range(worlds):
        effect = np.repeat(rng.normal(size=users), per_user)
        noise = rng.normal(size=users * per_user)
        bootstrap = UserBootstrap(
            np.repeat(np.arange(users), per_user), num_resamples=150, seed=world
        )
        found = estimate(0.0, statistic(bootstrap, effect, noise, rng))
        held += found.low <= truth <= found.high
    return held / worlds


class TestCoverage:
    """Within three standard errors of 95 %, less what 60 users and 150 resamples cost (2 %)."""

    def test_of_a_mean(self):
        def mean(bootstrap, effect, noise, rng):
            return bootstrap.means(0.3 + effect + 0.5 * noise, np.ones(len(effect)))

        assert 0.88 <= coverage(mean, 0.3) <= 0.99

    def test_of_an_auc(self):
        def auc(bootstrap, effect, noise, rng):
            labels = np.tile([0.0, 1.0], len(effect) // 2)
            return bootstrap.aucs(effect + noise + 0.5 * labels, labels, np.ones(len(effect)))

        # The score of both classes is normal with variance 2: AUC = Phi(0.5 / sqrt(2 + 2)).
        assert 0.88 <= coverage(auc, 0.59871) <= 0.99

    def test_drawing_examples_would_not_cover(self):
        """The reason to draw users: an interval over examples is far too narrow."""

        def over_examples(bootstrap, effect, noise, rng):
            alone = UserBootstrap(np.arange(len(effect)), num_resamples=150)
            return alone.means(0.3 + effect + 0.5 * noise, np.ones(len(effect)))

        assert coverage(over_examples, 0.3, worlds=100) < 0.7
