"""Data sets that extend another: known ids stay, new ones follow, and the old one is only read."""

import collections
import copy
import dataclasses
import shutil

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.extension import (
    Metadata,
    OtherSchemaError,
    require_extension,
    schema_differences,
)
from kunlun_jax.data.manifest import manifest_checksum
from kunlun_jax.data.metadata import copy_metadata, read_vocabularies
from kunlun_jax.data.own_data import Built, Hashed
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.vocabularies import values_in_order, write_vocabulary
from tests.data.comparing import files_in
from tests.data.own_data import world
from tests.processes import run_python

VALUES = st.lists(st.sampled_from("abcdefgh"), max_size=12)


def tomorrow(tables):
    """The same tables a day later: other items, and one that was there."""
    rows = copy.deepcopy(tables)
    for row in rows["impressions"]:
        row["item"] = {"1": "1", "2": "0 before all", "3": "zz"}.get(row["item"], "x y")
        row["price"] = "7.5"
    for row in rows["view"]:
        row["tag"] = {"a": "a"}.get(row["tag"], "new")
        row["amount"] = "3" if row["amount"] else ""
    return rows


@pytest.fixture(scope="module")
def extended(tmp_path_factory, tables, dataset):
    return world.build(
        tmp_path_factory.mktemp("tomorrow"), tomorrow(tables), extend=dataset.directory
    )


def vocabularies(dataset):
    return read_vocabularies(dataset.directory, dataset.manifest)


def test_known_ids_stay_and_new_ones_follow(dataset, extended):
    known, found = vocabularies(dataset), vocabularies(extended)
    assert known.keys() == found.keys() == {"item", "tag"}
    for name, values in known.items():
        assert found[name][: len(values)] == values
    assert found["item"][len(known["item"]) :] == ["0 before all", "zz"]
    assert "new" in found["tag"]
    assert extended.schema.vocabulary_by_name["site"] == dataset.schema.vocabulary_by_name["site"]


def test_the_manifest_names_the_parent_and_counts_what_was_appended(dataset, extended):
    known, found = vocabularies(dataset), vocabularies(extended)
    assert extended.manifest["parent"] == {
        "manifest_sha256": manifest_checksum(dataset.manifest),
        "statistics": "keep",
        "appended": {"site": 0, **{n: len(found[n]) - len(known[n]) for n in known}},
    }
    assert "parent" not in dataset.manifest


def test_examples_are_those_of_the_tables(tables, extended):
    """What an id stands for is what the table has there, or nothing."""
    item = vocabularies(extended)["item"]
    shown = collections.Counter()
    for examples in extended.splits.values():
        lengths = examples.sparse_lengths["item"]
        for ids, length in zip(examples.sparse["item"], lengths, strict=True):
            shown[item[ids[0] - 1] if length and ids[0] else None] += 1
    rows = tomorrow(tables)["impressions"]
    assert shown == collections.Counter(
        row["item"] if row["item"] in item else None for row in rows
    )


@pytest.mark.parametrize(("choice", "same"), [("keep", True), ("refresh", False)])
def test_statistics_are_kept_or_refreshed(tmp_path, tables, dataset, extended, choice, same):
    found = extended
    if choice == "refresh":
        tables = tomorrow(tables)
        options = {"extend": dataset.directory, "statistics": choice}
        found = world.build(tmp_path, tables, **options)
    assert (found.schema.dense == dataset.schema.dense) == same
    assert (found.schema.streams == dataset.schema.streams) == same
    if not same:  # prices are all the same now, transformed by log1p
        assert found.schema.dense[0].mean == pytest.approx(2.1400661634962708)


def test_a_run_keeps_enough_to_be_extended(tmp_path, tables, dataset, extended):
    copy_metadata(dataset.directory, tmp_path / "dataset")
    other = world.build(tmp_path, tomorrow(tables), extend=tmp_path / "dataset")
    assert files_in(other.directory) == files_in(extended.directory)


def test_extending_by_the_same_tables_changes_nothing(tmp_path, tables, dataset):
    other = world.build(tmp_path, tables, extend=dataset.directory)
    assert other.identity == dataset.identity
    assert set(other.manifest["parent"]["appended"].values()) == {0}


def test_what_was_made_is_kept_and_another_parent_refused(tmp_path, tables, dataset, extended):
    arguments = world.SCHEMA, world.write_tables(tmp_path, tomorrow(tables)), extended.directory
    shutil.copytree(extended.directory, tmp_path / "out")
    arguments = (*arguments[:2], tmp_path / "out")
    options = {"num_shards": 3, "extend": dataset.directory}
    before = files_in(tmp_path / "out")
    build_own_data(*arguments, **options)
    for other in ({**options, "extend": extended.directory}, {**options, "statistics": "refresh"}):
        with pytest.raises(DatasetError, match=r"exists already.*\(--extend or --statistics"):
            build_own_data(*arguments, **other)
    assert files_in(tmp_path / "out") == before


@settings(max_examples=50)
@given(before=VALUES, after=st.lists(VALUES, max_size=3), least=st.integers(1, 3))
def test_no_known_id_changes_its_number(tmp_path_factory, before, after, least):
    """However often a vocabulary is extended, and by whatever."""
    root = tmp_path_factory.mktemp("ids")
    engine = Engine(root, threads=1, memory_gb=1.0)
    ids, known = {}, None
    for day, values in enumerate([before, *after]):
        place = root / str(day)
        (place / "vocabularies").mkdir(parents=True)
        rows = ", ".join(f"('{value}')" for value in values)
        seen = f"SELECT value FROM (VALUES {rows}) AS t(value)" if rows else (
            "SELECT NULL::VARCHAR AS value WHERE false"
        )  # fmt: skip
        ordered = root / f"{day}.parquet"
        engine.copy(values_in_order(seen, Built(least), known), ordered, in_order=True)
        write_vocabulary([ordered], place, 0)
        file = place / "vocabularies" / "000.parquet"
        table = pq.ParquetFile(file).read().to_pydict()
        known = engine.path(file)
        counts = collections.Counter(values)
        new = sorted(v for v, n in counts.items() if n >= least and v not in ids)
        ids |= {value: len(ids) + 1 + i for i, value in enumerate(new)}
        assert dict(zip(table["value"], table["id"], strict=True)) == ids
        assert table["count"] == [counts[value] for value in table["value"]]
    engine.close()


CHANGES = {
    "sparse feature 'site': expected one, got none": {
        "sparse": world.SCHEMA.sparse[:2],
        "vocabularies": {},
    },
    "dense feature 'price': log1p: expected True, got False": {"dense": ("price",)},
    "labels: expected the order ['click', 'buy'], got ['buy', 'click']": {
        "labels": ("buy", "click")
    },
    "vocabulary 'site': ids: expected 5, got 6": {
        "vocabularies": {**world.SCHEMA.vocabularies, "site": Hashed(6)}
    },
    "vocabulary 'item': hashes: expected 0, got 1": {"vocabularies": {"item": Hashed(9)}},
    "stream 'order': expected one, got none": {"streams": world.SCHEMA.streams[:1]},
}


@pytest.mark.parametrize("line", CHANGES)
def test_another_schema_is_a_line_for_every_difference(tmp_path, tables, dataset, line):
    schema = dataclasses.replace(world.SCHEMA, **CHANGES[line])
    with pytest.raises(OtherSchemaError) as error:
        world.build(tmp_path, tables, schema=schema, extend=dataset.directory)
    lines = str(error.value).splitlines()
    assert f"{dataset.directory}: {line}" in lines
    assert lines == [
        f"{dataset.directory}: {x}"
        for x in schema_differences(world.SCHEMA.declared(), schema.declared())
    ]
    assert not (tmp_path / "built").exists()


def test_what_may_differ(dataset):
    changes = {
        "limits": dataclasses.replace(world.SCHEMA.limits, label_rate=(0.0, 1.0)),
        "streams": tuple(dataclasses.replace(s, max_len=9) for s in world.SCHEMA.streams),
        "name": "mars",
    }
    other = dataclasses.replace(world.SCHEMA, **changes)
    assert schema_differences(dataset.schema, other.declared()) == []


def test_a_damaged_vocabulary_is_not_extended(tmp_path, tables, dataset):
    old = tmp_path / "old"
    shutil.copytree(dataset.directory, old)
    file = old / "vocabularies" / "000.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"000\.parquet: damaged: expected SHA-256"):
        world.build(tmp_path, tables, extend=old)


def test_beam_does_not_extend(tmp_path, tables, dataset):
    with pytest.raises(ValueError, match=r"--extend: expected a build by DuckDB, got --beam"):
        world.build(tmp_path, tables, extend=dataset.directory, beam_options=[])


class TestRequireExtension:
    def check(self, known, new):
        require_extension(Metadata.open(known.directory), Metadata.open(new.directory))

    def test_an_extension_is_one_and_so_is_the_same(self, dataset, extended):
        self.check(dataset, extended)
        self.check(dataset, dataset)

    def test_a_smaller_one_is_none(self, dataset, extended):
        with pytest.raises(DatasetError, match=r"'item': does not extend .*at least 10 ids, got 8"):
            self.check(extended, dataset)

    def test_other_numbers_are_none(self, tmp_path, tables, dataset):
        other = world.build(tmp_path, tomorrow(tables))
        with pytest.raises(DatasetError, match=r"'item': does not extend .*expected "):
            self.check(dataset, other)

    def test_other_features_are_none(self, tmp_path, tables, dataset):
        schema = dataclasses.replace(world.SCHEMA, dense=())
        other = world.build(tmp_path, tables, schema=schema)
        with pytest.raises(DatasetError, match=r"dense feature 'price': expected one, got none"):
            self.check(dataset, other)


class TestCommand:
    def build(self, directory, *arguments):
        return run_python("-m", "kunlun_jax.build", f"--out={directory}", *arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--source=synthetic", "--extend=old"], "--extend: expected --schema"),
            (["--source=synthetic", "--statistics=keep"], "--statistics: expected --extend"),
        ],
    )
    def test_flags_that_do_not_go_together(self, tmp_path, arguments, message):
        outcome = self.build(tmp_path / "out", *arguments)
        assert outcome.returncode == 1
        assert outcome.stderr.startswith(f"ValueError: {message}")
        assert outcome.stderr.count("\n") == 1

    def test_no_data_set_to_extend(self, tmp_path, tables):
        with pytest.raises(DatasetError, match="no data set here"):
            world.build(tmp_path, tables, extend=tmp_path / "nowhere")


def test_opens_as_any_other(extended):
    assert Dataset.open(extended.directory).identity == extended.identity
