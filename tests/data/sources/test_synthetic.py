import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.data import counter_random
from kunlun_jax.data.build import build_dataset, describe_source, write_dataset
from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.sources import synthetic, synthetic_events, synthetic_labels
from kunlun_jax.data.sources.synthetic import Options
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.metrics import binary_metrics

OPTIONS = Options(
    num_users=200, num_items=300, num_categories=12, num_train=4_000, num_validation=300,
    num_test=3_000, events_per_user=40, history_len=16, seed=3,
)  # fmt: skip


NEEDS = dataclasses.replace(OPTIONS, need_weight=3.0, transition_weight=2.0)


@pytest.fixture(scope="module")
def tables():
    return synthetic.load(OPTIONS)


def assert_equal(a, b, rows):
    """Compare examples `a` with rows of examples `b`, column by column."""
    for field in dataclasses.fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if not isinstance(left, dict):
            left, right = {"": left}, {"": right}
        assert list(left) == list(right)
        for name in left:
            np.testing.assert_array_equal(left[name], right[name][rows], err_msg=field.name)


class TestPurity:
    @pytest.mark.parametrize("split", SPLITS)
    def test_a_slice_equals_the_whole(self, tables, split):
        for rows in (slice(0, 1), slice(37, 205), slice(299, 300), slice(5, 5)):
            part = synthetic.examples(OPTIONS, split, rows.start, rows.stop)
            assert_equal(part, tables.splits[split], rows)

    def test_probabilities_of_a_slice(self):
        whole = synthetic.probabilities(OPTIONS, "test", 0, 300)
        np.testing.assert_array_equal(
            synthetic.probabilities(OPTIONS, "test", 100, 120), whole[100:120]
        )

    def test_a_users_log_does_not_depend_on_other_users(self, tables):
        users = np.asarray([3, 77, 199])
        for name, log in synthetic_events.make_logs(OPTIONS, users).items():
            whole = tables.logs[name]
            for row, user in enumerate(users):
                mine = slice(log.offsets[row], log.offsets[row + 1])
                theirs = slice(whole.offsets[user], whole.offsets[user + 1])
                np.testing.assert_array_equal(log.times[mine], whole.times[theirs])
                np.testing.assert_array_equal(log.dense[mine], whole.dense[theirs])
                for feature, ids in log.ids.items():
                    np.testing.assert_array_equal(ids[mine], whole.ids[feature][theirs])

    def test_the_number_of_examples_changes_no_example(self, tables):
        larger = dataclasses.replace(OPTIONS, num_train=9_000)
        assert_equal(synthetic.examples(larger, "train", 0, 50), tables.splits["train"], slice(50))
        assert len(synthetic.examples(OPTIONS, "train", 10**9, 10**9 + 5)) == 5

    def test_another_seed_is_another_data_set(self, tables):
        other = synthetic.examples(dataclasses.replace(OPTIONS, seed=4), "train", 0, 300)
        same = other.sparse["item"] == tables.splits["train"].sparse["item"][:300]
        assert same.mean() < 0.2


class TestTables:
    def test_are_valid(self, tables):
        validate_tables(tables)
        assert tables.checksums == {}
        assert {name: len(rows) for name, rows in tables.splits.items()} == {
            "train": 4_000,
            "validation": 300,
            "test": 3_000,
        }

    def test_splits_follow_each_other_in_time(self, tables):
        times = [tables.splits[split].request_times for split in SPLITS]
        assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()

    def test_histories_of_all_kinds_occur(self, tables):
        ends = tables.splits["train"].ends["purchase"]
        assert (ends == 0).any()
        assert ends.max() > OPTIONS.history_len

    def test_items_follow_zipfs_law(self):
        unit = (np.arange(200_000) + 0.5) / 200_000
        counts = np.bincount(synthetic_events.draw_item(OPTIONS, unit), minlength=301)[1:]
        weights = 1.0 / np.arange(1, 301)
        np.testing.assert_allclose(counts / 200_000, weights / weights.sum(), atol=1e-5)

    def test_items_of_a_category_follow_zipfs_law(self):
        # 300 = 12 * 25, and with 295 items the last categories have one item less.
        options = dataclasses.replace(OPTIONS, num_items=295)
        unit = (np.arange(50_000) + 0.5) / 50_000
        for category in (1, 7, 8, 12):
            drawn = synthetic_events.draw_item_of(options, np.full(50_000, category), unit)
            items = np.arange(category, 296, 12)
            assert (synthetic_events.category_of(options, drawn) == category).all()
            counts = np.bincount(drawn, minlength=296)[items]
            np.testing.assert_allclose(counts / 50_000, 1 / items / (1 / items).sum(), atol=5e-5)

    def test_streams_follow_the_favourites_to_their_degree(self, tables):
        """Fifty draws at the time of an event find nearly all categories it may have come from."""
        share = []
        for name in ("purchase", "click", "view"):
            log = tables.logs[name]
            user = np.repeat(np.arange(200), np.diff(log.offsets))
            drawn = [
                synthetic_events.draw_favourite(OPTIONS, "test", user, log.times, np.full(1, i))
                for i in range(50)
            ]
            share.append((np.stack(drawn) == log.ids["category"]).any(axis=0).mean())
        purchase, click, view = share
        assert purchase - click > 0.1
        assert click - view > 0.1

    def test_interests_drift(self):
        """Draws a day apart agree more often than draws a year apart."""
        users = np.repeat(np.arange(2_000), 2)
        start = synthetic_events.START

        def agreement(gap):
            time = np.tile([start, start + gap], 2_000)
            index = np.zeros(4_000, np.int64)
            drawn = synthetic_events.draw_favourite(OPTIONS, "test", users, time, index)
            return (drawn[::2] == drawn[1::2]).mean()

        assert agreement(86400) > 0.95
        assert agreement(45 * 86400) == pytest.approx(0.5, abs=0.1)
        assert agreement(360 * 86400) < 0.2


class TestLabels:
    @pytest.mark.parametrize("options", [OPTIONS, NEEDS], ids=["plain", "needs"])
    def test_probability_is_the_documented_formula(self, options):
        """An oracle in plain Python over the tables that a model sees."""
        tables = synthetic.load(options)
        examples = tables.splits["test"]
        actual = synthetic.probabilities(options, "test", 0, 60)
        for i in range(60):
            user, time = examples.users[i], examples.request_times[i]
            item = int(examples.sparse["item"][i, 0])
            segment = int(examples.sparse["segment"][i, 0]) - 1
            z = (
                -2.9
                + 0.5 * counter_random.normal(3, "quality", item).item()
                + 0.3 * counter_random.normal(3, "bias", segment).item()
                + 0.5 * float(examples.dense[i, 0])
            )
            for stream, weight in (("purchase", 4.0), ("click", 2.0)):
                events = _history(tables.logs[stream], user, time)
                total = sum(math.exp(-age / 30) for age, _, _ in events)
                mine = (item - 1) % 12 + 1
                matching = sum(math.exp(-age / 30) for age, _, other in events if other == mine)
                z += weight * matching / total if events else 0.0
                if stream == "purchase":
                    same = (math.exp(-age / 30) for age, other, _ in events if other == item)
                    z += 2.0 * max(same, default=0.0)
                    ages = [age for age, _, other in events if other == mine]
                    period = (7, 14, 28)[counter_random.integers(3, 3, "period", mine).item()]
                    if ages:
                        due = math.exp(-(((min(ages) / period - 1) / 0.25) ** 2) / 2)
                        z += options.need_weight * due
                    if events and mine == events[-1][2] % 12 + 1:
                        z += options.transition_weight
            assert actual[i] == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-6)

    def test_labels_are_drawn_from_the_probability(self, tables):
        p = synthetic.probabilities(OPTIONS, "train", 0, 4_000)
        labels = tables.splits["train"].labels[:, 0]
        for part in np.array_split(np.argsort(p), 5):
            deviation = math.sqrt((p[part] * (1 - p[part])).sum())
            assert abs((labels - p)[part].sum()) < 3.5 * deviation

    def test_bayes_entropy_is_that_of_the_true_probability(self, tables):
        p = synthetic.probabilities(OPTIONS, "test", 0, 3_000)
        state = binary_metrics.update(
            binary_metrics.init(),
            logits=jnp.asarray(np.log(p / (1 - p)), jnp.float32)[:, None],
            labels=jnp.asarray(tables.splits["test"].labels),
            weights=jnp.ones(3_000),
        )
        rate = float(tables.splits["train"].labels.mean())
        values = binary_metrics.compute(state, label_rate=rate)
        bayes = synthetic.bayes_normalized_entropy(OPTIONS, "test")
        assert bayes == pytest.approx(values["normalized_entropy"], rel=1e-6)
        assert 0.5 < bayes < 0.85
        assert values["calibration"] == pytest.approx(1.0, abs=0.1)

    def test_most_of_the_signal_is_in_the_history(self, tables):
        """Without the streams the same requests are far harder to predict."""
        empty = {name: np.zeros_like(end) for name, end in tables.splits["test"].ends.items()}
        requests = synthetic._requests(OPTIONS, "test", 0, 3_000)
        full = synthetic_labels.true_logits(OPTIONS, requests)
        context = synthetic_labels.true_logits(OPTIONS, dataclasses.replace(requests, ends=empty))
        assert np.var(full) > 3 * np.var(context)

    def test_needs_and_transitions_matter(self):
        """Each moves many requests by its weight, and none down."""
        requests = synthetic._requests(NEEDS, "test", 0, 3_000)
        logits = synthetic_labels.true_logits(NEEDS, requests)
        for weight, largest in (("need_weight", 3.0), ("transition_weight", 2.0)):
            without = dataclasses.replace(NEEDS, **{weight: 0.0})
            part = logits - synthetic_labels.true_logits(without, requests)
            assert part.min() >= -1e-12
            assert part.max() == pytest.approx(largest, rel=0.01)
            assert 0.05 < (part > largest / 2).mean() < 0.5, weight

    def test_views_are_noise(self):
        requests = synthetic._requests(OPTIONS, "test", 0, 300)
        no_views = dataclasses.replace(requests, ends=requests.ends | {"view": np.zeros(300, int)})
        np.testing.assert_array_equal(
            synthetic_labels.true_logits(OPTIONS, requests),
            synthetic_labels.true_logits(OPTIONS, no_views),
        )


class TestErrors:
    @pytest.mark.parametrize("weight", [-0.5, float("nan")])
    def test_weights_below_zero(self, weight):
        with pytest.raises(ValueError, match=f"need_weight: expected at least 0, got {weight}"):
            dataclasses.replace(OPTIONS, need_weight=weight)

    @pytest.mark.parametrize("field", ["num_users", "num_test", "events_per_user", "history_len"])
    def test_numbers_that_are_not_positive(self, field):
        with pytest.raises(ValueError, match=f"{field}: expected at least 1, got 0"):
            dataclasses.replace(OPTIONS, **{field: 0})

    def test_fewer_items_than_categories(self):
        with pytest.raises(ValueError, match="num_items: expected at least num_categories = 12"):
            dataclasses.replace(OPTIONS, num_items=11)

    @pytest.mark.parametrize("function", [synthetic.examples, synthetic.probabilities])
    def test_requests_that_are_not_there(self, function):
        with pytest.raises(ValueError, match=r"split: expected one of .*, got 'holdout'"):
            function(OPTIONS, "holdout", 0, 1)
        with pytest.raises(ValueError, match="start: expected at least 0, got -1"):
            function(OPTIONS, "train", -1, 1)

    def test_entropy_of_an_unknown_split(self):
        with pytest.raises(ValueError, match=r"split: expected one of .*, got 'holdout'"):
            synthetic.bayes_normalized_entropy(OPTIONS, "holdout")


def _history(log, user, time):
    """(age in days, item, category) of the user's last 16 events before a time, latest last."""
    rows = [
        row for row in range(log.offsets[user], log.offsets[user + 1]) if log.times[row] < time
    ][-16:]
    return [
        (
            int(time - log.times[row]) / 86400,
            int(log.ids["item"][row]),
            int(log.ids["category"][row]),
        )
        for row in rows
    ]


def test_shard_by_shard_gives_the_same_files_as_from_memory(tmp_path):
    options = dataclasses.replace(OPTIONS, num_items=50, num_test=100, history_len=8)
    build_dataset("synthetic", options, tmp_path / "shards", num_shards=3)
    description = describe_source("synthetic", options)
    tables = synthetic.load(options)
    write_dataset(tables, tmp_path / "memory", source=description, num_shards=3)
    for path in (tmp_path / "memory").iterdir():
        assert path.read_bytes() == (tmp_path / "shards" / path.name).read_bytes(), path.name
