"""The Beam pipeline has the bytes of DuckDB's build. It needs: pip install -e ".[beam]"."""

import dataclasses
import gzip
import json
import random

import pytest

from kunlun_jax.data import SchemaError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.own_data import ByDate, ByUser, Hashed
from kunlun_jax.data.own_data.inputs import Inputs
from tests.data.comparing import files_in
from tests.data.own_data import world

beam = pytest.importorskip("apache_beam")

from kunlun_jax.data.own_data.beam import numbering, pipeline, steps  # noqa: E402

# Runs in this very process, and needs no other program.
OPTIONS = ["--runner=FnApiRunner"]


def assert_same_build(directory, inputs, schema=world.SCHEMA, num_shards=3):
    build_own_data(schema, inputs, directory / "duckdb", num_shards=num_shards)
    build_own_data(schema, inputs, directory / "beam", num_shards=num_shards, beam_options=OPTIONS)
    assert files_in(directory / "beam") == files_in(directory / "duckdb")


@pytest.mark.parametrize(("seed", "num_shards"), [(0, 3), (1, 1), (2, 40)])
def test_the_same_bytes(tmp_path, seed, num_shards):
    inputs = world.write_tables(tmp_path / "tables", world.make_tables(seed))
    assert_same_build(tmp_path, inputs, num_shards=num_shards)


@pytest.mark.parametrize("split", [ByUser(0.25, 0.25, seed=3), ByDate("2020-09-20", "2020-09-21")])
def test_the_same_bytes_of_other_splits(tmp_path, split):
    day, tables = 86_400, world.make_tables(0)
    for i, row in enumerate(tables["impressions"]):
        row["time"] = str(int(row["time"]) // day * day + day * (i % 10) + 5)
    inputs = world.write_tables(tmp_path / "tables", tables)
    assert_same_build(tmp_path, inputs, dataclasses.replace(world.SCHEMA, split=split))


@pytest.mark.parametrize("num_hashes", [1, 2])
def test_the_same_bytes_of_hashed_vocabularies(tmp_path, num_hashes):
    inputs = world.write_tables(tmp_path / "tables", world.make_tables(0))
    kinds = {name: Hashed(3, num_hashes) for name in ("item", "tag", "site")}
    assert_same_build(tmp_path, inputs, dataclasses.replace(world.SCHEMA, vocabularies=kinds))
    manifest = json.loads((tmp_path / "beam" / "dataset.json").read_text())
    assert manifest["hashed_vocabularies"]["item"]["collision_rate"] > 0


def test_the_same_bytes_of_many_files_in_many_elements(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "ROWS_PER_ELEMENT", 7)
    tables = world.make_tables(4, num_requests=200, num_events=150)
    files = {}
    for name, rows in tables.items():
        rows = random.Random(0).sample(rows, len(rows))
        files[name] = tuple(tmp_path / f"{name}-{i}.csv" for i in range(3))
        for i, path in enumerate(files[name]):
            world.write_csv(path, rows[i::3])
    assert_same_build(tmp_path, Inputs(files))


def test_the_same_bytes_and_findings_of_dirty_cells(tmp_path):
    """Times before 1970 with fractions, blanks, texts for nothing and two spellings."""
    tables, rng = world.make_tables(5), random.Random(0)
    for row in (row for rows in tables.values() for row in rows):
        for column, value in row.items():
            if column in ("time", "at"):
                row[column] = f"{int(value) - world.START - 20}.{rng.randrange(100):02d}"
            elif column == "tags":
                row[column] = rng.choice(["a| b", "NULL|a", "|a||", " ", r"\N"])
            elif column == "item" and value:
                row[column] = rng.choice([f" {value}", f"{value}.0", "none"])
    inputs = world.write_tables(tmp_path / "tables", tables)
    assert_same_build(tmp_path, inputs)
    findings = json.loads((tmp_path / "beam" / "dataset.json").read_text())["findings"]
    assert [line for line in findings if line.startswith("vocabulary 'item': expected at most 1")]
    kinds = {name: Hashed(50) for name in ("item", "tag", "site")}
    schema = dataclasses.replace(world.SCHEMA, vocabularies=kinds, missing=())
    (tmp_path / "hashed").mkdir()
    assert_same_build(tmp_path / "hashed", inputs, schema)
    manifest = json.loads((tmp_path / "hashed" / "beam" / "dataset.json").read_text())
    said = "\n".join(manifest["findings"])
    assert "vocabulary 'item': expected at most 1.00% of values that equal another" in said
    assert "such as '1' and '1.0'" in said
    assert "values that look like nothing" in said
    assert manifest["hashed_vocabularies"]["item"]["nothing"] == ["none"]


@pytest.mark.parametrize(("folder", "name"), [("label=1", "a[1]*"), ("in {x,y}?", "click=1 'é")])
def test_the_same_bytes_under_any_path(tmp_path, folder, name):
    tables = world.make_tables(0)
    plain = world.build(tmp_path / "plain", tables)
    inside = tmp_path / folder / name
    files = {}
    for table, (path,) in world.write_tables(inside, tables).files.items():
        files[table] = (path.rename(inside / f"{table}{name}.csv"),)
    out = inside / "split=2" / "o[1]"
    build_own_data(world.SCHEMA, Inputs(files), out, num_shards=3, beam_options=OPTIONS)
    built = files_in(out)
    for file, expected in files_in(plain.directory).items():
        if file != "dataset.json" and "columns-" not in file:  # columns: made by opening it
            assert built[file] == expected


def test_files_of_other_ends_and_columns_and_compressions(tmp_path):
    tables = world.make_tables(0)
    inputs = world.write_tables(tmp_path / "tables", tables)
    lines = (tmp_path / "tables" / "view.csv").read_text().splitlines()
    parts = {
        "d1/part-0.csv": "\n".join(lines[:20]).encode() + b"\n",
        "d2/part-0.csv": "\r\n".join([f"{lines[0]},more", *(f"{x},1" for x in lines[20:40])])
        .encode() + b"\n",
        "d2/part-1.csv.gz": gzip.compress("\n".join([lines[0], *lines[40:]]).encode()),
    }  # fmt: skip
    for name, text in parts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    views = tuple(tmp_path / name for name in parts)
    assert_same_build(tmp_path, Inputs({**inputs.files, "view": views}))
    for name in ("d1", "d2"):
        path = tmp_path / name / "part-0.csv"
        before = path.read_bytes()
        path.write_bytes(before + b"u1,tomorrow\n")
        message = rf"/{name}/part-0.csv: line \d+: expected \d columns, got 2"
        with pytest.raises(SchemaError, match=message):
            build_own_data(
                world.SCHEMA,
                Inputs({**inputs.files, "view": views}),
                tmp_path / "other",
                beam_options=OPTIONS,
            )
        path.write_bytes(before)


def test_a_bad_row_ends_in_one_line_and_leaves_nothing(tmp_path):
    tables = world.make_tables(0)
    tables["view"][5]["time"] = "tomorrow"
    inputs = world.write_tables(tmp_path / "tables", tables)
    with pytest.raises(
        SchemaError, match=r"view.csv: column 'time': expected .* in row 6"
    ) as error:
        build_own_data(world.SCHEMA, inputs, tmp_path / "built", beam_options=OPTIONS)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"tables", ".built.lock"}


def unknown_users(tables):
    for row in tables["order"]:
        row["buyer"] = f"x{row['buyer']}"


def one_moment(tables):
    for row in tables["impressions"]:
        row["time"] = str(world.START)


def no_tags(tables):
    for row in [*tables["impressions"], *tables["view"]]:
        row["tags" if "tags" in row else "tag"] = ""


def user_like_none(tables):
    tables["view"][3]["user"] = "null"


def list_as_text(tables):
    tables["impressions"][3]["tags"] = "['a', 'b']"


REFUSED = [unknown_users, one_moment, no_tags, user_like_none, list_as_text]


@pytest.mark.parametrize("change", REFUSED)
def no_event_is_taken(tables):
    for row in tables["order"]:
        row["state"] = "open"


@pytest.mark.parametrize("change", [unknown_users, one_moment, no_tags, no_event_is_taken])
def test_what_duckdb_refuses_is_refused_in_the_same_words(tmp_path, change):
    tables = world.make_tables(0)
    change(tables)
    inputs = world.write_tables(tmp_path / "tables", tables)
    messages = []
    for options in (None, OPTIONS):
        with pytest.raises(SchemaError) as error:
            build_own_data(world.SCHEMA, inputs, tmp_path / "built", beam_options=options)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_another_failure_names_itself(tmp_path, monkeypatch):
    def fail(pair, *arguments):
        raise OSError("disk full")

    monkeypatch.setattr(pipeline, "_write", fail)
    inputs = world.write_tables(tmp_path / "tables", world.make_tables(0))
    with pytest.raises(RuntimeError, match=r"the Beam pipeline failed: .*disk full"):
        build_own_data(world.SCHEMA, inputs, tmp_path / "built", beam_options=OPTIONS)
    monkeypatch.undo()
    assert_same_build(tmp_path, inputs)


@pytest.mark.parametrize("num_ranges", [1, 2, 50])
def test_numbers_do_not_depend_on_the_ranges(num_ranges):
    import pyarrow as pa
    from apache_beam.testing.test_pipeline import TestPipeline
    from apache_beam.testing.util import assert_that

    rng = random.Random(num_ranges)
    values = [f"{rng.choice(['a', 'Z', 'ä', '東', '😀'])}{rng.randrange(200)}" for _ in range(2000)]
    table = pa.table({"value": values, "count": [1] * len(values)})
    parts = [("x", table.slice(start, 300)) for start in range(0, len(values), 300)]

    def check(found):
        rows = sorted(
            (row["number"], row["value"], row["count"])
            for _, part in found
            for row in part.to_pylist()
        )
        often = sorted(v for v in set(values) if values.count(v) >= 3)
        assert rows == [(i, v, values.count(v)) for i, v in enumerate(often)]

    with TestPipeline(runner="FnApiRunner") as test:
        counts = test | beam.Create(parts)
        numbered = numbering.number_in_order(
            counts, "numbers", num_ranges=num_ranges, least={"x": 3}
        )
        assert_that(numbered.values, check)


def test_the_seconds_at_which_splits_begin_are_those_of_the_sorted_requests():
    import pyarrow as pa

    rng = random.Random(0)
    split = world.SCHEMA.split
    for _ in range(20):
        spread = rng.choice([3, steps.SPAN, 50 * steps.SPAN])
        times = [world.START + rng.randrange(spread) for _ in range(rng.randrange(3, 400))]
        rows = pa.table({"time": times})
        wanted = steps.find_spans(steps.count_spans(rows), split)
        found = steps.find_seconds(steps.count_seconds(rows, wanted), wanted)
        places = [int(len(times) * (1.0 - share)) for share in (0.2, 0.1)]
        assert found == [sorted(times)[place] for place in places]
