import dataclasses
import json

import pytest

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.manifest import MANIFEST, manifest_checksum
from tests.data import toy


@pytest.fixture
def copy(tmp_path):
    return toy.toy_dataset(tmp_path / "toy").directory


def edit(directory, change):
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["manifest_sha256"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))


def test_open_refuses_a_missing_data_set(tmp_path):
    with pytest.raises(DatasetError, match=r"nothing: no data set here"):
        Dataset.open(tmp_path / "nothing")


def test_open_refuses_a_damaged_manifest(copy):
    edit(copy, lambda m: m.update(format_version=0))
    with pytest.raises(DatasetError, match="expected format version 1, got 0"):
        Dataset.open(copy)
    edit(copy, lambda m: (m.update(format_version=1), m.pop("files")))
    with pytest.raises(DatasetError, match=r"dataset\.json: no \['files'\]"):
        Dataset.open(copy)
    (copy / MANIFEST).write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json: not JSON"):
        Dataset.open(copy)


def test_open_refuses_a_broken_schema(copy):
    edit(copy, lambda m: m["schema"].pop("labels"))
    with pytest.raises(DatasetError, match=r"dataset\.json: not a schema"):
        Dataset.open(copy)


def test_open_refuses_another_schema(copy):
    schema = Dataset.open(copy).schema
    Dataset.open(copy, schema=schema)
    stream = dataclasses.replace(schema.streams[1], max_len=5)
    other = dataclasses.replace(schema, streams=(schema.streams[0], stream))
    with pytest.raises(DatasetError, match=r"schema\.streams\[1\]\.max_len: expected 5, got 4"):
        Dataset.open(copy, schema=other)


def test_open_refuses_missing_and_truncated_shards(copy):
    shard = sorted(copy.glob("*.arrayrecord"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(DatasetError, match=rf"{shard.name}: expected \d+ bytes, got \d+"):
        Dataset.open(copy)
    shard.unlink()
    with pytest.raises(DatasetError, match=rf"{shard.name}: missing"):
        Dataset.open(copy)


def test_a_changed_manifest_is_found(copy):
    path = copy / MANIFEST
    text = path.read_text()
    path.write_text(text.replace('"max_len": 8', '"max_len": 9'))
    with pytest.raises(DatasetError, match=r"dataset\.json: damaged"):
        Dataset.open(copy)


def test_a_manifest_of_before_there_was_a_checksum_is_read(copy):
    path = copy / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"], manifest["vocabularies"]
    path.write_text(json.dumps(manifest))
    assert Dataset.open(copy).num_users == 9


def test_open_refuses_counts_that_do_not_match(copy):
    edit(copy, lambda m: m["counts"]["rows"].update(test=50))
    with pytest.raises(DatasetError, match="the shards hold"):
        Dataset.open(copy)
    edit(copy, lambda m: m["counts"].update(rows={"train": 203, "validation": 37, "test": 41}))
    edit(copy, lambda m: m["counts"]["events"].update(click=1))
    with pytest.raises(DatasetError, match=r"stream 'click': expected 1 events"):
        Dataset.open(copy)
