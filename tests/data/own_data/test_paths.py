"""Paths: whatever they contain, they name files, and say nothing of what is in them."""

import dataclasses
import gzip
import itertools
import json
import os
import pathlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kunlun_jax.data import Dataset, DatasetError, SchemaError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.own_data.formats import open_bytes
from kunlun_jax.data.own_data.inputs import Inputs, find_files
from kunlun_jax.data.own_data.links import Links
from kunlun_jax.data.quality.card import write_card
from kunlun_jax.data.validate import validate
from tests.data.own_data import world

# A build takes too long to look for a smaller failing case.
BUILDS = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
)
HOSTILE = "[]*?=%'\"\\ {},;:#~!$&()|<>^`@+-\n\táß東😀ab12"
NAMES = st.text(HOSTILE, min_size=1, max_size=12)
# Names of columns: of the tables, and of those that the build itself makes.
COLUMNS = ["time", "item", "click", "price", "who", "split", "shard", "s0", "unit", "key", "l0"]


def shard_bytes(directory):
    paths = [*directory.glob("*.arrayrecord"), *directory.glob("vocabularies/*")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def same_under(tmp_path_factory, tables, dataset):
    """The assertion, in a new folder each time."""

    def check(**names):
        assert_same_under(tmp_path_factory.mktemp("hostile"), tables, dataset, **names)

    return check


def folder_named(place, name):
    """A new folder of such a name; "." and ".." are taken."""
    folder = place / f"{name}x" if name in (".", "..") else place / name
    folder.mkdir(parents=True)
    return folder


def write_parquet(directory, tables):
    for name, rows in tables.items():
        columns = {key: [row[key] or None for row in rows] for key in rows[0]}
        pq.write_table(pa.table(columns), directory / f"{name}.parquet")


def assert_same_under(place, tables, dataset, *, folder, file, out, parquet):
    inside, suffix = folder_named(place, folder), "parquet" if parquet else "csv"
    (world.write_tables if not parquet else write_parquet)(inside, tables)
    for name in tables:
        (inside / f"{name}.{suffix}").rename(inside / f"{name}{file}.{suffix}")
    for decoy in ("views1", "view1", "view"):  # what a pattern would find
        if not (inside / f"{decoy}.{suffix}").exists():
            (inside / f"{decoy}.{suffix}").write_text("a,b\n1,2\n")
    events = [f"{name}={inside}/{name}{file}.{suffix}" for name in ("view", "order")]
    inputs = Inputs.parse(world.SCHEMA, f"{inside}/impressions{file}.{suffix}", events)
    target = folder_named(place / "out", out) / f"{out}y"
    build_own_data(world.SCHEMA, inputs, target, num_shards=3)
    assert shard_bytes(target) == shard_bytes(dataset.directory)
    assert Dataset.open(target).identity == dataset.identity


@BUILDS
@given(folder=NAMES, file=NAMES, out=NAMES, parquet=st.booleans())
def test_a_path_is_taken_literally(same_under, folder, file, out, parquet):
    same_under(folder=folder, file=file, out=out, parquet=parquet)


@pytest.mark.parametrize(
    ("folder", "file", "out", "parquet"),
    [
        ("in [v2]", "[1]", "o[1]", False),
        ("label=1", "click=1", "split=2", True),
        ("price=7", "-x", "s0=9", False),
        ("{a,b}", "*", "?", True),
    ],
)
def test_reported_paths(tmp_path, tables, dataset, folder, file, out, parquet):
    names = {"folder": folder, "file": file, "out": out}
    assert_same_under(tmp_path, tables, dataset, **names, parquet=parquet)


@BUILDS
@given(column=st.sampled_from(COLUMNS), value=st.sampled_from(["0", "1", "2", "x"]))
def test_a_folder_is_no_column(tmp_path_factory, tables, dataset, column, value):
    place = tmp_path_factory.mktemp("folders")
    for suffix in ("csv", "parquet"):
        inside = folder_named(place / suffix, f"{column}={value}")
        (world.write_tables if suffix == "csv" else write_parquet)(inside, tables)
        events = [f"{name}={inside / name}.{suffix}" for name in ("view", "order")]
        inputs = Inputs.parse(world.SCHEMA, f"{inside}/impressions.{suffix}", events)
        target = place / f"{suffix}-out" / f"{column}={value}" / "built"
        build_own_data(world.SCHEMA, inputs, target, num_shards=3)
        assert shard_bytes(target) == shard_bytes(dataset.directory)


FOLDERS = ("~", "~root", "file:", "s3:", "gs:", "hdfs:", "label=1")


# Packed CSV is opened by the reader of plain CSV.
@pytest.mark.parametrize(
    ("folder", "suffix"), [*itertools.product(FOLDERS, ("csv", "parquet")), ("hdfs:", "csv.gz")]
)
def test_a_relative_path_is_no_home_and_no_uri(
    tmp_path, tables, dataset, monkeypatch, folder, suffix
):
    inside = folder_named(tmp_path, folder)
    (write_parquet if suffix == "parquet" else world.write_tables)(inside, tables)
    if suffix == "csv.gz":
        for path in list(inside.glob("*.csv")):
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.chdir(tmp_path)
    events = [f"{name}={folder}/{name}.{suffix}" for name in ("view", "order")]
    inputs = Inputs.parse(world.SCHEMA, f"{folder}/impressions.{suffix}", events)
    build_own_data(world.SCHEMA, inputs, f"{folder}/built", num_shards=3)
    assert shard_bytes(inside / "built") == shard_bytes(dataset.directory)
    findings = json.loads((inside / "built" / "dataset.json").read_text())["findings"]
    report = validate(pathlib.Path(folder, "built"))
    assert set(findings) <= set(report.findings)
    assert not [line for line in report.findings if "checksum" in line or "damaged" in line]
    assert write_card(report, pathlib.Path(folder, "card")).is_file()


def test_temporary_files_under_a_hostile_folder(tmp_path, tables, dataset, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder_named(tmp_path, "t[1]=*")))
    other = world.build(tmp_path, tables)
    assert shard_bytes(other.directory) == shard_bytes(dataset.directory)


def test_links_are_removed_and_messages_name_the_files(tmp_path):
    links = Links()
    name = links.name(tmp_path / "a[1].csv")
    assert links.restore(f"{name}: bad") == f"{tmp_path}/a[1].csv: bad"
    links.close()
    assert not pathlib.Path(name).parent.exists()


@pytest.mark.parametrize("name", [b"d\xe9j\xe0", b"\xff"])
def test_a_path_that_is_not_text_is_refused(tmp_path, tables, name):
    folder = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    folder.mkdir()
    inputs = world.write_tables(tmp_path / "tables", tables)
    with pytest.raises(SchemaError, match=r"\\x.*: expected a path in UTF-8, got other bytes"):
        build_own_data(world.SCHEMA, inputs, folder / "built")
    shutil.copy(tmp_path / "tables" / "view.csv", folder)
    with pytest.raises(SchemaError, match=r"\\x.*: expected a path in UTF-8, got other bytes"):
        find_files(str(folder))


class TestFindFiles:
    """Files by a path, a folder or a pattern."""

    def write(self, place, *names):
        for name in names:
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"user,time\n{name},1\n")

    def found(self, place, pattern):
        return [path.relative_to(place).as_posix() for path in find_files(f"{place}/{pattern}")]

    def test_a_folder_is_every_file_in_it_and_below_it(self, tmp_path):
        names = ["0.csv", "1.CSV", "2.csv.gz", "3.Tsv", "4.csv.zst", "d=1/e/5.tsv.gz", "_SUCCESS"]
        self.write(tmp_path / "in", *names)
        assert self.found(tmp_path, "in") == [f"in/{name}" for name in sorted(names[:-1])]

    @pytest.mark.parametrize("name", ["notes.txt", "a/b.xlsx", "a.csv.bz2", ".a.csv", ".a/b.csv"])
    def test_what_cannot_be_read_is_refused_by_name(self, tmp_path, name):
        self.write(tmp_path, "0.csv", name)
        with pytest.raises(SchemaError, match=rf"{name.split('/')[0]}.*: expected .*, got "):
            find_files(str(tmp_path))

    def test_rows_that_are_not_the_tables_yet_are_refused(self, tmp_path):
        self.write(tmp_path, "part-0.csv", "_temporary/0/task_1/part-0.csv")
        with pytest.raises(SchemaError, match=r"_temporary: expected a finished table, got"):
            find_files(str(tmp_path))

    def test_text_beside_parquet_is_refused(self, tmp_path):
        self.write(tmp_path, "0.csv", "1.parquet")
        with pytest.raises(SchemaError, match=r"1.parquet: expected either text or Parquet"):
            find_files(str(tmp_path))

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.csv", ["a.csv", "a[1].csv"]),
            ("a?1?.csv", ["a[1].csv"]),
            ("a[1]*", ["a[1].csv"]),
            ("**/*.csv", ["a.csv", "a[1].csv", "d/b.csv", "d/e/c.csv"]),
            ("d*", ["d/b.csv", "d/e/c.csv"]),
            ("**", ["a.csv", "a[1].csv", "d/b.csv", "d/e/c.csv"]),
        ],
    )
    def test_a_pattern_has_stars_and_question_marks_only(self, tmp_path, pattern, expected):
        self.write(tmp_path, "a.csv", "a[1].csv", "d/b.csv", "d/e/c.csv", "d/_SUCCESS")
        assert self.found(tmp_path, pattern) == expected

    def test_a_file_of_a_patterns_name_is_that_file(self, tmp_path):
        self.write(tmp_path, "a*.csv", "ab.csv")
        assert self.found(tmp_path, "a*.csv") == ["a*.csv"]

    def test_one_file_under_two_names_is_refused(self, tmp_path):
        self.write(tmp_path, "a.csv")
        (tmp_path / "latest.csv").symlink_to("a.csv")
        with pytest.raises(SchemaError, match=r"latest.csv: expected each file once, got that of"):
            find_files(str(tmp_path))

    def test_a_folder_in_a_circle_is_refused(self, tmp_path):
        self.write(tmp_path, "d/a.csv")
        (tmp_path / "d" / "up").symlink_to("..")
        with pytest.raises(SchemaError, match="expected a folder, got a link to one above it"):
            find_files(str(tmp_path))

    def test_a_folder_called_like_a_stream(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path, "i.csv", "only=1/v.csv", "b=1/v.csv")
        schema = dataclasses.replace(
            world.SCHEMA, streams=(dataclasses.replace(world.SCHEMA.streams[1], name="only"),)
        )
        for value in ("only=1/v.csv", "only=only=1/v.csv"):
            found = Inputs.parse(schema, "i.csv", [value])
            assert found.files["only"] == (pathlib.Path("only=1/v.csv"),)
        found = Inputs.parse(schema, "i.csv", ["b=1/v.csv"])
        assert found.files["only"] == (pathlib.Path("b=1/v.csv"),)


class TestFilesOfOneName:
    """Files are known by their path within the table."""

    @pytest.fixture
    def inputs(self, tmp_path, tables):
        (tmp_path / "d1").mkdir()
        (tmp_path / "d2").mkdir()
        found = world.write_tables(tmp_path / "tables", tables)
        for i in (0, 1):
            world.write_csv(tmp_path / f"d{i + 1}" / "part-0.csv", tables["view"][i::2])
        files = find_files(f"{tmp_path}/d*/part-0.csv")
        return Inputs({**found.files, "view": files})

    @pytest.mark.parametrize("folder", ["d1", "d2"])
    def test_one_of_them_changes_and_the_data_set_is_not_kept(self, tmp_path, inputs, folder):
        out = tmp_path / "built"
        build_own_data(world.SCHEMA, inputs, out, num_shards=3)
        path = tmp_path / folder / "part-0.csv"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-5]))
        message = rf"made from another schema or other files \(view/{folder}/part-0.csv: changed\)"
        with pytest.raises(DatasetError, match=message):
            build_own_data(world.SCHEMA, inputs, out, num_shards=3)

    def test_the_manifest_knows_both_and_their_rows(self, tmp_path, inputs, tables, dataset):
        build_own_data(world.SCHEMA, inputs, tmp_path / "built", num_shards=3)
        manifest = json.loads((tmp_path / "built" / "dataset.json").read_text())
        names = {"view/d1/part-0.csv", "view/d2/part-0.csv"}
        assert names < manifest["source_checksums"].keys()
        rows = manifest["source_rows"]["files"]
        assert sum(rows[name] for name in names) == len(tables["view"])
        assert Dataset.open(tmp_path / "built").identity == dataset.identity

    def test_the_names_do_not_change_with_the_place(self, tmp_path, inputs):
        before = inputs.checksums()
        shutil.copytree(tmp_path / "tables", tmp_path / "moved" / "tables")
        for folder in ("d1", "d2"):
            shutil.copytree(tmp_path / folder, tmp_path / "moved" / folder)
        files = {
            name: tuple(tmp_path / "moved" / path.relative_to(tmp_path) for path in paths)
            for name, paths in inputs.files.items()
        }
        assert Inputs(files).checksums() == before


def test_the_summary_says_what_became_of_every_row(dataset, tables):
    found = dataset.manifest["source_rows"]
    users = {row["who"] for row in tables["impressions"]}
    views, orders = tables["view"], tables["order"]
    kept_views = sum(row["user"] in users for row in views)
    paid = [row for row in orders if row["state"] == "paid"]
    kept_orders = sum(row["buyer"] in users for row in paid)
    assert found["tables"] == {
        "impressions": {"read": 80, "kept": 80, "left_out": {"where": 0}},
        "view": {
            "read": len(views),
            "kept": kept_views,
            "left_out": {"where": 0, "user_without_impressions": len(views) - kept_views},
        },
        "order": {
            "read": len(orders),
            "kept": kept_orders,
            "left_out": {
                "where": len(orders) - len(paid),
                "user_without_impressions": len(paid) - kept_orders,
            },
        },
    }
    assert found["files"]["view/view.csv"] == len(views)


def gzipped(content):
    return gzip.compress(content)


def zipped(content):
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize(("suffix", "compress"), [(".csv.gz", gzipped), (".CSV.ZST", zipped)])
def test_compressed_files(tmp_path, tables, dataset, suffix, compress):
    found = world.write_tables(tmp_path / "tables", tables)
    files = {}
    for name, (path,) in found.files.items():
        target = path.with_name(f"{name}{suffix}")
        target.write_bytes(compress(path.read_bytes()))
        files[name] = (target,)
    build_own_data(world.SCHEMA, Inputs(files), tmp_path / "built", num_shards=3)
    assert shard_bytes(tmp_path / "built") == shard_bytes(dataset.directory)


@pytest.mark.parametrize("damage", [lambda c: c[:-20], lambda c: b"user,time\n" + c])
def test_a_damaged_compressed_file_is_refused(tmp_path, damage):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(damage(gzip.compress(b"user,time\n1,2\n" * 1000)))
    with (
        pytest.raises(SchemaError, match="not a gzip file, or a damaged one"),
        open_bytes(path) as file,
    ):
        file.read()
