"""The file of columns: the shards' content, and what becomes of a damaged one."""

import dataclasses
import pathlib
import resource

import numpy as np
import pytest

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.columns import mapped
from kunlun_jax.data.columns.layout import layout
from kunlun_jax.data.validate import validate
from tests.data import toy

FLIPS = 40


@pytest.fixture
def built(tmp_path):
    dataset = toy.toy_dataset(tmp_path / "toy")
    dataset.columns.confirm()
    return dataset


def flip(path, byte, bit=0):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_examples_are_those_of_the_tables(dataset, split):
    tables, columns = toy.toy_tables(), dataset.columns
    expected, found = tables.splits[split], columns.splits[split].take(columns.places[split])
    np.testing.assert_array_equal(columns.users[found.users], expected.users)
    dense = standardize(expected.dense, dataset.schema.dense)
    replaced = dataclasses.replace(expected, users=found.users, dense=dense)
    for field in dataclasses.fields(replaced):
        np.testing.assert_equal(getattr(found, field.name), getattr(replaced, field.name))
    # What a block of examples needs stands together.
    assert (np.diff(columns.splits[split].users) >= 0).all()


def test_logs_are_those_of_the_tables(dataset):
    tables, columns = toy.toy_tables(), dataset.columns
    for stream in dataset.schema.streams:
        found, expected = columns.logs[stream.name], tables.logs[stream.name].take(columns.users)
        events = len(expected.times)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        for got, want in (
            (found.times, expected.times),
            (found.dense, standardize(expected.dense, stream.dense)),
            *((found.ids[name], expected.ids[name]) for name in expected.ids),
        ):
            np.testing.assert_array_equal(got[:events], want)
            assert len(got) == events + stream.max_len
            assert not got[events:].any()


def test_sums_over_whole_columns(dataset):
    train = toy.toy_tables().splits["train"]
    for stream in dataset.schema.streams:
        expected = np.bincount(
            np.minimum(train.ends[stream.name], stream.max_len), minlength=stream.max_len + 1
        )
        np.testing.assert_array_equal(dataset.training_histories(stream.name), expected)
    weight = dataset.columns.statistics["weights"]["train"]["weight"]
    assert weight == pytest.approx(train.weights.sum(dtype=np.float64), rel=1e-12)


def test_nothing_can_be_written_into_them(dataset):
    with pytest.raises(ValueError, match="read-only"):
        dataset.columns.splits["train"].labels[:] = 0.0


def test_columns_of_the_same_shards_are_the_same_file(built):
    path = built.columns.path
    content = path.read_bytes()
    path.unlink()
    assert Dataset.open(built.directory).columns.path == path
    assert path.read_bytes() == content


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = {
    "no file": lambda path: path.unlink(),
    "no index": lambda path: mapped.index_path(path).unlink(),
    "cut": cut,
    "index cut": lambda path: cut(mapped.index_path(path)),
    "index flipped": lambda path: flip(mapped.index_path(path), 30),
    "index of nothing": lambda path: mapped.index_path(path).write_text("[]"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_not_whole_is_made_anew(built, capsys, name):
    path = built.columns.path
    content, index = path.read_bytes(), mapped.index_path(path).read_bytes()
    capsys.readouterr()
    DAMAGES[name](path)
    opened = Dataset.open(built.directory)
    opened.columns.confirm()
    assert (path.read_bytes(), mapped.index_path(path).read_bytes()) == (content, index)
    assert "made anew from the shards" in capsys.readouterr().err
    # What was mapped before stays what it was.
    np.testing.assert_equal(opened.columns.users, built.columns.users)


def test_flipped_bits_are_found_and_the_next_start_makes_it_anew(built):
    path, rng = built.columns.path, np.random.default_rng(0)
    index = mapped.index_path(path)
    content, description = path.read_bytes(), index.read_bytes()
    columns = layout(built.schema, built.manifest["counts"])
    columns = [column for column in columns if column.num_bytes]
    for _ in range(FLIPS):
        column = columns[rng.integers(len(columns))]
        flip(path, column.offset + int(rng.integers(column.num_bytes)), int(rng.integers(8)))
        opened = Dataset.open(built.directory)
        with pytest.raises(DatasetError, match=r"damaged: expected SHA-256 .* makes it anew"):
            opened.columns.confirm()
        with pytest.raises(DatasetError, match="columns-"):
            opened.columns.confirm()  # and again, to whoever asks
        assert not index.exists()
        path.write_bytes(content)
        index.write_bytes(description)
    flip(path, 0)
    with pytest.raises(DatasetError, match="column 'users': damaged"):
        Dataset.open(built.directory).columns.confirm()
    Dataset.open(built.directory).columns.confirm()
    assert path.read_bytes() == content


def test_a_data_set_is_validated_with_its_columns(built):
    assert not [line for line in validate(built.directory).findings if "columns-" in line]
    flip(built.columns.path, 0)
    found = [line for line in validate(built.directory).findings if "columns-" in line]
    assert len(found) == 1 and "column 'users': damaged" in found[0]


def test_a_change_under_a_running_process_is_found(built):
    with built.columns.path.open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(DatasetError, match="changed while it was in use"):
        built.columns.confirm()


def test_a_file_that_is_replaced_or_removed_is_still_mapped(built):
    users = built.columns.users.tolist()
    built.columns.path.unlink()
    Dataset.open(built.directory)
    built.columns.confirm()
    assert built.columns.users.tolist() == users


def test_another_place_for_columns(built, tmp_path):
    for path in built.directory.glob("*columns-*"):
        path.unlink()
    opened = Dataset.open(built.directory, columns_directory=tmp_path / "place" / "here")
    assert opened.columns.path.parent == tmp_path / "place" / "here"
    assert not list(built.directory.glob("*columns-*"))
    blocked = tmp_path / "file"
    blocked.touch()
    message = r"cannot be written: .*config\.data\.columns_directory names another place"
    with pytest.raises(DatasetError, match=message):
        Dataset.open(built.directory, columns_directory=blocked / "below")


def test_no_room_is_said_before_anything_is_read(built, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DatasetError, match="cannot be written: File too large"):
            Dataset.open(built.directory, columns_directory=tmp_path / "place")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = {path.suffix for path in pathlib.Path(tmp_path / "place").iterdir()}
    assert left == {".lock"}


@pytest.mark.parametrize("target", ["users", "rows"])
def test_shards_with_the_same_users_or_rows_are_refused(built, monkeypatch, target):
    from kunlun_jax.data.columns import making

    read, first = making.read_shard, []

    def twice(path, schema):
        first.append(read(path, schema))
        shard = first[-1]
        if target == "users":
            return dataclasses.replace(shard, users=shard.users * 0 + first[0].users[0])
        rows = {name: rows * 0 for name, rows in shard.rows.items()}
        return dataclasses.replace(shard, rows=rows)

    built.columns.path.unlink()
    monkeypatch.setattr(making, "read_shard", twice)
    with pytest.raises(DatasetError, match=rf"shard-0000\d.*expected each of \d+ {target} once"):
        Dataset.open(built.directory)
    assert not built.columns.path.exists()
