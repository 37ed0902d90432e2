"""Data sets in parts: which examples a batch has, by an oracle in NumPy, and who opens what."""

import math
import shutil

import chex
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kunlun_jax.data import BatchSource, Dataset, DatasetError, make_train_iterator
from kunlun_jax.data.columns import mapped
from kunlun_jax.data.parts import shares
from kunlun_jax.data.reading.shard_reader import read_shard
from tests.data import toy

BATCH = 12
SHARDS = 3
FEW_USERS = toy.Options(num_users=2)  # fewer than shards


def numbered(directory, options=None):
    """Build a data set whose training and test examples have their row, from 1 on, as weight."""
    tables = toy.toy_tables(options)
    for split in ("train", "test"):
        weights = tables.splits[split].weights
        weights[:] = np.arange(1, len(weights) + 1)
    toy.toy_dataset(directory, options, tables=tables)
    return directory


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return numbered(tmp_path_factory.mktemp("numbered") / "toy")


@pytest.fixture(scope="module")
def of_few(tmp_path_factory):
    return numbered(tmp_path_factory.mktemp("few") / "toy", FEW_USERS)


def make(directory, num_parts, held=None, **changes):
    dataset = Dataset.open(directory, num_parts=num_parts)
    if held is not None:
        facts = dataset.facts
        dataset = Dataset.open(directory, num_parts=num_parts, held=held).completed(facts)
    options = {"split": "train", "batch_size": BATCH, "max_lens": toy.MAX_LENS} | changes
    return BatchSource(dataset, **options)


def stored_rows(directory, num_parts, split="train"):
    """The weights of every part's examples as they are stored: by shard, user and row."""
    dataset, parts = Dataset.open(directory), []
    for part in range(num_parts):
        found = []
        for entry in dataset.manifest["files"][part::num_parts]:
            shard = read_shard(directory / entry["name"], dataset.schema)
            examples, rows = shard.tables.splits[split], shard.rows[split]
            found += examples.weights[np.lexsort((rows, shard.users[examples.users]))].tolist()
        parts.append(found)
    return parts


def rows_of(batch, rows):
    return jax.tree.map(lambda x: x[rows], batch)


def oracle(parts, number, batch_size, seed):
    """The weights of batch `number`, as docs/many_hosts.md says which examples it has."""
    longest, size, found = max(map(len, parts)), batch_size // len(parts), []
    for part, rows in enumerate(parts):
        words = (seed, 5, part, len(parts))
        own = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
        first, stop = (math.floor(at * size * len(rows) / longest) for at in (number, number + 1))
        for position in range(first, stop):
            epoch, place = divmod(position, len(rows))
            order = np.arange(len(rows), dtype=np.int32)
            bits = np.random.PCG64(np.random.SeedSequence((own, 0, epoch)))
            np.random.Generator(bits).shuffle(order)
            found.append(rows[order[place]])
        found += [0.0] * (size - (stop - first))
    return found


@pytest.mark.parametrize("num_parts", [2, 3])
@pytest.mark.parametrize("seed", [0, 7])
def test_batches_are_those_of_the_oracle(built, num_parts, seed):
    source, parts = make(built, num_parts, seed=seed), stored_rows(built, num_parts)
    assert len({len(part) for part in parts}) == num_parts  # of different sizes
    for number in [*range(30), 1000, 10**6]:
        assert source[number].weights.tolist() == oracle(parts, number, BATCH, seed)
    assert source.num_examples == sum(map(len, parts)) == 203
    assert source.epoch_size == num_parts * max(map(len, parts))
    assert source.weight == 203 * 204 / 2


@pytest.mark.parametrize("window", [0, 40])
@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_an_epoch_has_every_example_once_and_of_each_part_in_proportion(built, num_parts, window):
    source = make(built, num_parts, batch_size=num_parts, shuffle_window=window)
    parts = stored_rows(built, num_parts)
    longest = max(map(len, parts))
    epochs = []
    for epoch in range(3):
        found = [source[epoch * longest + i].weights for i in range(longest)]
        epochs.append(np.concatenate(found))
        assert sorted(x for x in epochs[-1] if x) == list(range(1, 204))
        for part, rows in enumerate(parts):
            given = np.cumsum([slices[part] > 0 for slices in found])
            assert np.abs(given - np.arange(1, longest + 1) * len(rows) / longest).max() < 1
            assert {slices[part] for slices in found} <= {0, *rows}
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("options", [{}, {"shuffle_window": 40}, {"shuffle": False}])
def test_slices_depend_neither_on_processes_nor_on_what_else_is_open(built, options):
    whole = make(built, 3, **options)
    size = BATCH // 3
    for number in range(8):
        expected = whole[number]
        for part in range(3):
            indices = np.arange(part * size, (part + 1) * size)
            own = make(built, 3, held=[part], indices=indices, **options)
            assert own.fingerprint == whole.fingerprint
            assert len(own) == len(whole)
            chex.assert_trees_all_equal(own[number], rows_of(expected, indices))
    middle = np.arange(size + 1, 2 * size + 2)  # pieces of two slices
    found = make(built, 3, indices=middle, **options)[5]
    chex.assert_trees_all_equal(found, rows_of(whole[5], middle))


def test_no_look_at_the_shards_of_other_parts(built, tmp_path):
    indices = np.arange(4, 8)
    place = tmp_path / "host"
    place.mkdir()
    manifest = Dataset.open(built).manifest
    names = [entry["name"] for entry in manifest["files"]]
    for name in ("dataset.json", names[1]):
        shutil.copy(built / name, place / name)
    (place / names[2]).mkdir()  # whoever opens it fails
    facts = Dataset.open(built, num_parts=3).facts
    dataset = Dataset.open(place, num_parts=3, held=[1])
    assert list(dataset.facts) == [1]
    for split, shuffle in (("train", True), ("test", False)):
        source = BatchSource(
            dataset.completed(facts), split=split, batch_size=BATCH, max_lens=toy.MAX_LENS,
            shuffle=shuffle, indices=indices,
        )  # fmt: skip
        wanted = make(built, 3, split=split, shuffle=shuffle)
        for number in range(4):
            chex.assert_trees_all_equal(source[number], rows_of(wanted[number], indices))
    with pytest.raises(DatasetError, match=rf"{names[0]}: missing"):
        Dataset.open(place, num_parts=3, held=[0, 1])


@pytest.mark.parametrize("batch_size", [3, 12, 300])
@pytest.mark.parametrize("num_parts", [1, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_evaluation_has_every_example_once(built, split, num_parts, batch_size):
    source = make(built, num_parts, split=split, batch_size=batch_size, shuffle=False)
    batches = list(make_train_iterator(source))
    assert len(batches) == len(source)
    longest = max(map(len, stored_rows(built, num_parts, split)))
    assert len(source) == -(-longest * num_parts // batch_size)
    weights = np.concatenate([batch.weights for batch in batches])
    assert sorted(x for x in weights if x) == list(range(1, source.num_examples + 1))


def test_parts_without_examples(of_few):
    parts = stored_rows(of_few, SHARDS)
    assert [] in parts
    source = make(of_few, SHARDS)
    for number in range(9):
        assert source[number].weights.tolist() == oracle(parts, number, BATCH, 0)
    evaluated = make(of_few, SHARDS, shuffle=False)
    weights = np.concatenate([evaluated[number].weights for number in range(len(evaluated))])
    assert sorted(x for x in weights if x) == list(range(1, 204))
    parted, whole = jax.tree.leaves(source[0]), jax.tree.leaves(make(of_few, 1)[0])
    assert [x.dtype for x in parted] == [x.dtype for x in whole]


def test_drawn_examples_are_of_every_part_in_proportion(built):
    parts = stored_rows(built, 3)
    source = make(built, 3, max_examples=50, shuffle=False)
    weights = np.concatenate([source[number].weights for number in range(len(source))])
    chosen = {x for x in weights.tolist() if x}
    assert len(chosen) == source.num_examples == 50
    assert source.weight == sum(chosen)
    for rows in parts:
        assert abs(len(chosen & set(rows)) - 50 * len(rows) / 203) < 1
    trained = make(built, 3, max_examples=50, batch_size=3)
    seen = np.concatenate([trained[i].weights for i in range(trained.epoch_size // 3)])
    assert sorted(x for x in seen if x) == sorted(chosen)
    other = make(built, 3, max_examples=50, shuffle=False, seed=1)
    assert set(other[0].weights.tolist()) != set(source[0].weights.tolist())
    assert make(built, 3, max_examples=10_000).num_examples == 203


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.floats(0, 1))
def test_shares_sum_to_what_is_divided(counts, share):
    total = round(share * sum(counts))
    found = shares(total, counts)
    assert sum(found) == total
    for given_, count in zip(found, counts, strict=True):
        assert 0 <= given_ <= count
        assert abs(given_ - total * count / max(sum(counts), 1)) < 1


@pytest.mark.parametrize("stop", [0, 1, 7, 26])
def test_position_is_restored_exactly(built, stop):
    iterator = make_train_iterator(make(built, 3), num_threads=2, prefetch=5)
    for _ in range(stop):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(8)]
    resumed = make_train_iterator(make(built, 3), num_threads=1, prefetch=2)
    resumed.set_state(state)
    for want in expected:
        chex.assert_trees_all_equal(next(resumed), want)


def test_the_number_of_parts_is_in_the_fingerprint(built):
    assert len({make(built, num_parts).fingerprint for num_parts in (1, 2, 3)}) == 3


def test_what_parts_cannot_do_is_refused(built):
    with pytest.raises(ValueError, match=r"batch_size: expected a multiple of 3 \(parts\), got 16"):
        make(built, 3, batch_size=16)
    with pytest.raises(ValueError, match="period_hours: expected data in one part, got parts 3"):
        make(built, 3, period=60)
    message = r"expected a shard for each of the 4 parts of config\.data\.parts, got 3 shards"
    with pytest.raises(DatasetError, match=message):
        Dataset.open(built, num_parts=4)


def test_sums_over_all_parts_are_those_of_the_whole(built):
    whole, parted = Dataset.open(built), Dataset.open(built, num_parts=3)
    assert parted.identity == whole.identity
    for split, rates in whole.label_rates.items():
        assert parted.label_rates[split] == pytest.approx(rates, rel=1e-14)
    for stream in whole.schema.streams:
        name = stream.name
        np.testing.assert_array_equal(
            parted.training_histories(name), whole.training_histories(name)
        )
    facts = {number: dict(part) for number, part in parted.facts.items()}
    counts = facts[1]["counts"]
    facts[1]["counts"] = counts | {"users": counts["users"] + 1}
    alone = Dataset.open(built, num_parts=3, held=[0])
    with pytest.raises(DatasetError, match=r"dataset\.json: counts: expected .*the parts hold"):
        alone.completed(facts)


def test_every_part_has_a_file_of_its_own(built, tmp_path, capsys):
    def opened():
        return Dataset.open(built, num_parts=3, columns_directory=tmp_path)

    first = opened()
    paths = [columns.path for columns in first.parts.values()]
    assert len({path.read_bytes() for path in paths}) == 3
    assert {path.suffix for path in tmp_path.iterdir()} == {".bin", ".json", ".lock"}
    for columns in first.parts.values():
        columns.confirm()
    with paths[1].open("r+b") as file:
        file.write(b"\xff")
    damaged = opened()
    damaged.parts[0].confirm()
    with pytest.raises(DatasetError, match="column 'users': damaged: expected SHA-256"):
        damaged.parts[1].confirm()
    content = paths[2].read_bytes()
    mapped.index_path(paths[2]).unlink()
    capsys.readouterr()
    for columns in opened().parts.values():
        columns.confirm()
    assert capsys.readouterr().err.count("made anew from the shards") == 2
    assert paths[2].read_bytes() == content


def test_a_damaged_shard_of_a_part_is_named(built, tmp_path):
    place = tmp_path / "toy"
    shutil.copytree(built, place)
    name = Dataset.open(built).manifest["files"][2]["name"]
    with (place / name).open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\x00\xff")
    options = {"num_parts": 3, "columns_directory": tmp_path / "columns"}
    Dataset.open(place, held=[0, 1], **options)
    with pytest.raises(DatasetError, match=rf"{name}: damaged: expected SHA-256"):
        Dataset.open(place, held=[2], **options)
