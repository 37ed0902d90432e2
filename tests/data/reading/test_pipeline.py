import itertools
import threading

import chex
import jax
import numpy as np
import pytest

from kunlun_jax.data import BatchSource, make_train_iterator
from kunlun_jax.data.reading import order
from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.files import json_sha256
from tests.data import toy

BATCH = 16


def make(dataset, **changes):
    options = {"split": "train", "batch_size": BATCH, "max_lens": toy.MAX_LENS}
    return BatchSource(dataset, **(options | changes))


def standardized(value, feature):
    if np.isnan(value):
        return 0.0
    value = float(value)
    if feature.log1p:
        value = np.sign(value) * np.log1p(abs(value))
    return (value - feature.mean) / feature.std


def expected_example(dataset, split, row, max_lens):
    """What the batch should hold for one example, written with plain loops."""
    schema, examples = dataset.schema, dataset.splits[split]
    user, now = examples.users[row], examples.request_times[row]
    result = {
        "user": user,
        "labels": examples.labels[row],
        "weight": examples.weights[row],
        "dense": [standardized(examples.dense[row, i], f) for i, f in enumerate(schema.dense)],
        "sparse": {
            f.name: list(examples.sparse[f.name][row, : examples.sparse_lengths[f.name][row]])
            for f in schema.sparse
        },
        "streams": {},
    }
    for stream in schema.streams:
        log = dataset.logs[stream.name]
        events = []
        for i in range(log.offsets[user], log.offsets[user + 1]):
            if log.times[i] < now:
                attributes = [standardized(log.dense[i, a], f) for a, f in enumerate(stream.dense)]
                ids = {f.name: log.ids[f.name][i] for f in stream.ids}
                events.append((now - log.times[i], ids, attributes))
        result["streams"][stream.name] = events[-max_lens[stream.name] :]
    return result


def assert_example(batch, i, want, max_lens):
    assert batch.user_ids[i] == want["user"]
    np.testing.assert_array_equal(batch.labels[i], want["labels"])
    assert batch.weights[i] == want["weight"]
    np.testing.assert_allclose(batch.dense[i], want["dense"], rtol=1e-5, atol=1e-6)
    for name, values in want["sparse"].items():
        length = batch.sparse[name].lengths[i]
        assert list(batch.sparse[name].ids[i, :length]) == values
        assert not batch.sparse[name].ids[i, length:].any()
    for name, events in want["streams"].items():
        stream, length = batch.streams[name], len(events)
        assert stream.lengths[i] == length
        assert stream.ages.shape[1] == max_lens[name]
        assert list(stream.ages[i, :length]) == [age for age, _, _ in events]
        assert not stream.ages[i, length:].any()
        assert not stream.dense[i, length:].any()
        for position, (_, ids, attributes) in enumerate(events):
            np.testing.assert_allclose(stream.dense[i, position], attributes, rtol=1e-5, atol=1e-6)
            assert {f: column[i, position] for f, column in stream.ids.items()} == ids
        for column in stream.ids.values():
            assert not column[i, length:].any()
        assert list(stream.matches) == (["item"] if name == "click" else [])
        for feature, column in stream.matches.items():
            given = [x for x in want["sparse"][feature] if x != OOV_ID]
            assert list(column[i, :length]) == [ids[feature] in given for _, ids, _ in events]
            assert not column[i, length:].any()


def find_row(dataset, split, batch, i):
    """Rows of the split that look like example i of the batch, by columns that identify it."""
    examples = dataset.splits[split]
    same = examples.users == batch.user_ids[i]
    same &= (examples.sparse["item"] == batch.sparse["item"].ids[i]).all(axis=1)
    same &= (examples.sparse["tags"] == batch.sparse["tags"].ids[i]).all(axis=1)
    hour = dataset.schema.dense[1]
    same &= np.isclose((examples.dense[:, 1] - hour.mean) / hour.std, batch.dense[i, 1], atol=1e-5)
    return np.flatnonzero(same)


@pytest.mark.parametrize("max_lens", [toy.MAX_LENS, {"click": 8, "visit": 1}])
def test_against_a_loop_over_examples(dataset, max_lens):
    source = make(dataset, split="test", shuffle=False, max_lens=max_lens)
    rows = itertools.count()
    for batch in map(source.__getitem__, range(len(source))):
        for i in np.flatnonzero(batch.weights):
            want = expected_example(dataset, "test", next(rows), max_lens)
            assert_example(batch, i, want, max_lens)
    assert next(rows) == len(dataset.splits["test"])


def test_training_batches_against_the_loop(dataset):
    source = make(dataset)
    for number in (0, 7, 40):
        batch = source[number]
        for i in range(BATCH):
            matches = 0
            for row in find_row(dataset, "train", batch, i):
                try:
                    want = expected_example(dataset, "train", row, toy.MAX_LENS)
                    assert_example(batch, i, want, toy.MAX_LENS)
                    matches += 1
                except AssertionError:
                    continue
            assert matches >= 1


def test_shapes_and_types(dataset):
    batch = make(dataset)[0]
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), batch)
    assert shapes.dense == ((BATCH, 2), "float32")
    assert shapes.labels == ((BATCH, 2), "float32")
    assert shapes.weights == ((BATCH,), "float32")
    assert shapes.user_ids == ((BATCH,), "int32")
    assert shapes.sparse["tags"].ids == ((BATCH, 3), "int32")
    assert shapes.sparse["user"].lengths == ((BATCH,), "int32")
    click, visit = shapes.streams["click"], shapes.streams["visit"]
    assert list(batch.streams["click"].ids) == ["item", "tag"]
    assert click.ids["item"] == click.ages == ((BATCH, 6), "int32")
    assert click.dense == ((BATCH, 6, 2), "float32")
    assert visit.dense == ((BATCH, 3, 0), "float32")
    assert visit.lengths == ((BATCH,), "int32")


def test_empty_and_over_long_histories_occur(dataset):
    ends = dataset.splits["test"].ends["click"]
    assert (ends == 0).any()
    assert (ends > 8).any()
    assert np.diff(dataset.logs["click"].offsets)[0] == 0


def test_streams_that_are_not_named_are_left_out(dataset):
    assert list(make(dataset, max_lens={"visit": 2})[0].streams) == ["visit"]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """The data set, its training examples with their row, from 1 on, as weight."""
    tables = toy.toy_tables()
    weights = tables.splits["train"].weights
    weights[:] = np.arange(1, len(weights) + 1)
    return toy.toy_dataset(tmp_path_factory.mktemp("numbered") / "toy", tables=tables)


@pytest.mark.parametrize("batch_size", [16, 7, 203, 500])
def test_every_example_once_per_epoch(numbered, batch_size):
    source = make(numbered, batch_size=batch_size)
    count, epochs = 203, 3
    seen = []
    number = 0
    while len(seen) < epochs * count:
        seen += source[number].weights.astype(int).tolist()
        number += 1
    orders = [seen[e * count : (e + 1) * count] for e in range(epochs)]
    for epoch in orders:
        assert sorted(epoch) == list(range(1, count + 1))
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(order, "BLOCK", 16)


@pytest.mark.parametrize("max_examples", [None, 100])
def test_windows_have_the_examples_of_the_whole_shuffle(numbered, small_blocks, max_examples):
    options = {"max_examples": max_examples, "batch_size": 1}
    source = make(numbered, shuffle_window=50, **options)
    count = source.num_examples
    seen, expected = (
        np.concatenate([batches[i].weights for i in range(2 * count)]).reshape(2, count)
        for batches in (source, make(numbered, **options))
    )
    np.testing.assert_array_equal(np.sort(seen), np.sort(expected))
    assert (seen[0] != seen[1]).any()


def test_processes_read_different_parts_of_a_window(numbered, small_blocks):
    whole = make(numbered, shuffle_window=64)
    users = numbered.columns.users.tolist()
    for number in range(20):
        parts = [
            make(numbered, shuffle_window=64, indices=np.arange(first, first + 4))[number].weights
            for first in range(0, BATCH, 4)
        ]
        batch = whole[number]
        np.testing.assert_array_equal(np.concatenate(parts), batch.weights)
        stored = [users.index(user) for user in batch.user_ids]
        assert stored == sorted(stored)


def test_max_examples(numbered):
    source = make(numbered, max_examples=50, batch_size=25)
    assert source.num_examples == 50
    epochs = [np.concatenate([source[2 * e].weights, source[2 * e + 1].weights]) for e in range(3)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 50
        assert set(epoch.tolist()) == set(epochs[0].tolist())
    in_order = make(numbered, max_examples=50, shuffle=False)
    rows = np.concatenate([in_order[i].weights for i in range(len(in_order))])
    rows = rows[rows > 0]
    assert set(rows.tolist()) == set(epochs[0].tolist())
    assert (np.diff(rows) > 0).all()
    other = make(numbered, max_examples=50, shuffle=False, seed=1)
    assert set(other[0].weights.tolist()) != set(in_order[0].weights.tolist())
    assert make(numbered, max_examples=10_000).num_examples == 203


def test_evaluation_pads_the_last_batch_with_weight_zero(dataset):
    source = make(dataset, split="validation", shuffle=False)
    batches = list(make_train_iterator(source))
    assert len(batches) == len(source) == 3
    weights = np.concatenate([b.weights for b in batches])
    np.testing.assert_array_equal(weights[:37], dataset.splits["validation"].weights)
    assert not weights[37:].any()
    assert all(b.labels.shape == (BATCH, 2) for b in batches)
    for index in (3, -1):
        with pytest.raises(IndexError, match="expected an index below 3"):
            source[index]


def test_empty_split_has_no_batches(tmp_path):
    dataset = toy.toy_dataset(tmp_path / "toy", toy.Options(num_eval=0))
    assert list(make_train_iterator(make(dataset, split="validation", shuffle=False))) == []
    with pytest.raises(ValueError, match="expected examples to shuffle, got none"):
        make(dataset, split="validation")


def assert_equal(left, right):
    chex.assert_trees_all_equal(left, right)


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_batches_do_not_depend_on_threads(dataset, num_threads):
    source = make(dataset)
    iterator = make_train_iterator(make(dataset), num_threads=num_threads, prefetch=3)
    # 203 examples: 30 batches reach into the third epoch.
    for number in range(30):
        assert_equal(next(iterator), source[number])


def test_many_threads_read_one_source(dataset):
    source, reference = make(dataset), make(dataset)
    wrong = []

    expected = {n: reference[n].streams["click"].ages for n in range(60)}

    def check(numbers):
        for number in numbers:
            if not np.array_equal(source[number].streams["click"].ages, expected[number]):
                wrong.append(number)

    orders = [range(60), range(59, -1, -1), range(0, 60, 2), range(1, 60, 2)]
    threads = [threading.Thread(target=check, args=[order]) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("options", [{}, {"shuffle_window": 70}, {"period": 5}])
@pytest.mark.parametrize("stop", [0, 1, 12, 13, 26])
def test_position_is_restored_exactly(dataset, small_blocks, stop, options):
    iterator = make_train_iterator(make(dataset, **options), num_threads=2, prefetch=5)
    for _ in range(stop):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(8)]
    resumed = make_train_iterator(make(dataset, **options), num_threads=1, prefetch=2)
    resumed.set_state(state)
    for want in expected:
        assert_equal(next(resumed), want)


def test_fingerprint_changes_with_everything(dataset, tmp_path):
    base = make(dataset).fingerprint
    assert make(dataset).fingerprint == base
    assert make(dataset, max_lens={"visit": 3, "click": 6}).fingerprint == base
    # What checkpoints of before there were windows hold.
    options = {"split": "train", "batch_size": BATCH, "max_lens": toy.MAX_LENS, "shuffle": True}
    options |= {"dataset": dataset.identity, "seed": 0, "max_examples": None}
    assert base == json_sha256(options)
    changes = [
        {"split": "validation"},
        {"batch_size": BATCH + 1},
        {"max_lens": {"click": 5, "visit": 3}},
        {"max_lens": {"click": 6}},
        {"shuffle": False},
        {"seed": 1},
        {"max_examples": 100},
        {"shuffle_window": 100},
        {"period": 86_400},
        {"within": np.arange(50)},
    ]
    other = toy.toy_dataset(tmp_path / "other", toy.Options(seed=1))
    found = [base, make(other).fingerprint, *(make(dataset, **c).fingerprint for c in changes)]
    assert len(set(found)) == len(found)


def test_seeds_give_different_orders(dataset):
    first, second = make(dataset)[0], make(dataset, seed=1)[0]
    assert not np.array_equal(first.user_ids, second.user_ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "training"}, r"split: expected one of .*, got 'training'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"max_examples": 0}, "max_examples: expected at least 1, got 0"),
        ({"max_lens": {"clicks": 3}}, r"max_lens: expected streams of .*, got 'clicks'"),
        ({"max_lens": {"click": 9}}, "stream 'click': expected 1 .. 8, got 9"),
        ({"max_lens": {"click": 0}}, "stream 'click': expected 1 .. 8, got 0"),
    ],
)
def test_bad_options(dataset, changes, message):
    with pytest.raises(ValueError, match=message):
        make(dataset, **changes)
