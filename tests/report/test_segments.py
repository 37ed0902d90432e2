import numpy as np
import pytest

from kunlun_jax.data import Dataset
from kunlun_jax.metrics.grouped_auc import grouped_auc
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.report.charts import reliability_bins, score_histogram
from kunlun_jax.report.segments import Segmentation, paired_rows, segment_rows, segmentations

UNKNOWN = "out of vocabulary"


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 1)) < 0.3).astype(np.float32)
    logits = (rng.normal(size=(300, 1)) + labels - 1).astype(np.float32)
    return Scores(rng.integers(25, size=300), logits, labels, np.ones(300, np.float32))


@pytest.fixture(scope="module")
def halves():
    return Segmentation("halves", ("even", "odd"), np.arange(300) % 2)


class TestSegmentations:
    def test_every_example_is_in_the_part_that_its_columns_say(self, finished_runs):
        """Against the examples in the order of the source, counted one by one."""
        dataset = Dataset.open(finished_runs[0].parent / "data")
        found = {s.title.split(":")[0]: s for s in segmentations(dataset, ["purchase"], "test")}
        test, train = dataset.splits["test"], dataset.splits["train"]
        items, users = train.sparse["item"][:, 0].tolist(), train.users.tolist()
        of_item, of_user = found["candidate's item"], found["user"]
        for i in range(len(test)):
            for count, segmentation in (
                (items.count(test.sparse["item"][i, 0]), of_item),
                (users.count(test.users[i]), of_user),
                (int(test.ends["purchase"][i]), found["stream purchase"]),
            ):
                name = segmentation.names[segmentation.part[i]]
                first, _, last = name.replace(",", "").partition(" to ")
                low = int(first.split()[0])
                high = int(last or low) if "more" not in name else count
                assert low <= count <= high, segmentation.title

    def test_what_is_out_of_vocabulary_is_apart(self, world_run):
        dataset = Dataset.open(world_run.dataset.directory)
        test = dataset.splits["test"]
        apart = [s for s in segmentations(dataset, [], "test") if UNKNOWN in s.names]
        assert len(apart) == 1
        item = apart[0].title.split("'s ")[1].split(":")[0]
        unknown = test.sparse[item][test.weights > 0, 0] == 0
        assert np.array_equal(apart[0].part == apart[0].names.index(UNKNOWN), unknown)


class TestRows:
    def test_metrics_are_those_of_the_part_alone(self, scores, halves):
        rows = segment_rows(halves, scores, 0, num_resamples=50)
        assert [row["name"] for row in rows] == ["even", "odd"]
        for start, row in enumerate(rows):
            labels, logits = scores.labels[start::2, 0], scores.logits[start::2, 0]
            p = 1 / (1 + np.exp(-logits.astype(np.float64)))
            rate = labels.mean()
            loss = -np.mean(np.where(labels > 0, np.log(p), np.log(1 - p)))
            entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
            assert row["normalized_entropy"]["value"] == pytest.approx(loss / entropy)
            auc = grouped_auc(np.zeros(150), logits, labels)
            assert row["auc_roc"]["value"] == pytest.approx(auc)
            assert row["auc_roc"]["low"] < auc < row["auc_roc"]["high"]
            assert row["prediction"] == pytest.approx(p.mean())
            assert row["examples"] == 150

    def test_one_user_or_one_class_has_no_metrics(self, scores):
        one_user = Segmentation("u", ("a", "b"), (scores.user_ids == 3).astype(int))
        of_labels = Segmentation("l", ("a", "b"), scores.labels[:, 0].astype(int))
        rows = segment_rows(one_user, scores, 0, num_resamples=5)
        assert rows[0]["auc_roc"] is not None and rows[1]["auc_roc"] is None
        assert all(
            r["auc_roc"] is None for r in segment_rows(of_labels, scores, 0, num_resamples=5)
        )

    def test_paired_is_the_difference_of_both(self, scores, halves):
        logits = scores.logits + 0.5 * scores.labels
        better = Scores(scores.user_ids, logits, scores.labels, scores.weights)
        paired = paired_rows(halves, scores, better, 0, num_resamples=50)
        apart = [segment_rows(halves, x, 0, num_resamples=50) for x in (scores, better)]
        for row, a, b in zip(paired, *apart, strict=True):
            value = b["auc_roc"]["value"] - a["auc_roc"]["value"]
            assert row["auc_roc"]["value"] == pytest.approx(value)
            assert row["auc_roc"]["low"] > 0
            width = row["auc_roc"]["high"] - row["auc_roc"]["low"]
            assert width < a["auc_roc"]["high"] - a["auc_roc"]["low"]

    def test_predictions_of_other_examples_are_refused(self, scores):
        with pytest.raises(ValueError, match="a: expected 2 predictions, got 300"):
            segment_rows(Segmentation("a", ("x",), np.zeros(2)), scores, 0, num_resamples=5)


class TestReliability:
    def test_bins_by_hand(self, scores):
        bins = reliability_bins(scores, 0, UserBootstrap(scores.user_ids, num_resamples=50))
        order = np.argsort(scores.logits[:, 0])
        assert len(bins) == 10
        for i, found in enumerate(bins):
            inside = order[30 * i : 30 * (i + 1)]
            p = 1 / (1 + np.exp(-scores.logits[inside, 0].astype(np.float64)))
            assert found["predicted"] == pytest.approx(p.mean())
            assert found["observed"] == pytest.approx(scores.labels[inside].mean())
            assert found["low"] <= found["observed"] <= found["high"]
            assert found["weight"] == 30

    def test_weights_count(self, scores):
        weights = np.where(np.arange(300) % 3, 1.0, 4.0).astype(np.float32)
        weighted = Scores(scores.user_ids, scores.logits, scores.labels, weights)
        bins = reliability_bins(weighted, 0, None)
        assert sum(b["weight"] for b in bins) == pytest.approx(weights.sum())
        assert np.ptp([b["weight"] for b in bins]) <= 8.0

    def test_one_score_for_all(self):
        same = Scores(np.arange(4), np.zeros((4, 1)), np.eye(4)[:, :1], np.ones(4))
        assert all(b["predicted"] == 0.5 for b in reliability_bins(same, 0, None))
        assert score_histogram(same, 0, "t") is not None

    def test_numbers_that_are_none_are_counted(self, scores):
        logits = scores.logits.copy()
        logits[:7] = np.nan
        broken = Scores(scores.user_ids, logits, scores.labels, scores.weights)
        caption = score_histogram(broken, 0, "t").find("figcaption")
        assert "7 predictions are no number" in "".join(caption.itertext())
