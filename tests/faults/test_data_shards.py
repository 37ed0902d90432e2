"""Damaged data sets: a clean error that names the file, or the right answer; nothing else."""

import dataclasses

import numpy as np
import pytest

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.dataset import MANIFEST
from kunlun_jax.data.shard_reader import read_shard
from tests.data import toy

FLIPS = 40


@pytest.fixture
def built(tmp_path):
    return toy.toy_dataset(tmp_path / "toy")


def flipped(content, rng):
    """The same bytes with one bit flipped."""
    damaged = bytearray(content)
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def test_every_flipped_bit_in_a_shard_is_found(built):
    rng = np.random.default_rng(0)
    shards = sorted(built.directory.glob("*.arrayrecord"))
    found = 0
    for i in range(FLIPS):
        shard = shards[i % len(shards)]
        content = shard.read_bytes()
        shard.write_bytes(flipped(content, rng))
        with pytest.raises(DatasetError, match=shard.name):
            Dataset.open(built.directory)
        shard.write_bytes(content)
        found += 1
    assert found == FLIPS
    assert Dataset.open(built.directory).identity == built.identity


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_cut_shard_is_found(built, share):
    shard = sorted(built.directory.glob("*.arrayrecord"))[0]
    content = shard.read_bytes()
    shard.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=rf"{shard.name}: expected {len(content)} bytes, got"):
        Dataset.open(built.directory)


def test_a_shard_in_the_place_of_another_is_found(built):
    first, second, *_ = sorted(built.directory.glob("*.arrayrecord"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(DatasetError, match=second.name):
        Dataset.open(built.directory)


def test_a_flipped_bit_in_the_manifest_is_found_or_does_not_matter(built):
    rng = np.random.default_rng(1)
    path = built.directory / MANIFEST
    content = path.read_bytes()
    refused = 0
    for _ in range(100):
        path.write_bytes(flipped(content, rng))
        try:
            dataset = Dataset.open(built.directory)
        except DatasetError as error:
            assert MANIFEST in str(error) or "arrayrecord" in str(error)
            refused += 1
        else:
            assert_same(dataset, built)
    assert refused >= 60


def test_without_checksums_a_damaged_shard_is_refused_or_read_right(built):
    """What the file format finds by itself, were the manifest's checksums made anew."""
    rng = np.random.default_rng(2)
    path = sorted(built.directory.glob("*.arrayrecord"))[0]
    whole = read_shard(path, built.schema)
    content = path.read_bytes()
    refused = 0
    for i in range(300):
        damaged = flipped(content, rng) if i % 3 else content[: rng.integers(len(content))]
        path.write_bytes(damaged)
        try:
            shard = read_shard(path, built.schema)
        except DatasetError as error:
            assert path.name in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(shard.users, whole.users)
            assert_equal(shard.tables.logs, whole.tables.logs)
            assert_equal(shard.tables.splits, whole.tables.splits)
    assert refused >= 100


def assert_same(left, right):
    assert left.schema == right.schema
    assert_equal(left.logs, right.logs)
    assert_equal(left.splits, right.splits)


def assert_equal(left, right):
    """Logs, examples and dictionaries of them, column by column."""
    if dataclasses.is_dataclass(left):
        fields = [field.name for field in dataclasses.fields(left)]
        left, right = ({name: getattr(x, name) for name in fields} for x in (left, right))
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_equal(left[name], right[name])
    else:
        np.testing.assert_array_equal(left, right)
