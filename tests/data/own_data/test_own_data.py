"""Data sets of tables: against a join in plain Python, and in every format."""

import collections
import dataclasses
import hashlib
import itertools
import pathlib
import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kunlun_jax.data import BatchSource, Dataset, DatasetError, SchemaError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.hashing import expected_collision_rate, hashed_ids
from kunlun_jax.data.own_data import ByDate, ByUser, Hashed, engine
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.quality.card import write_card
from kunlun_jax.data.reading.requests import Events as RequestEvents
from kunlun_jax.data.reading.requests import Request, batch_requests
from kunlun_jax.data.validate import validate
from tests.data.comparing import files_in
from tests.data.cross_oracle import DAY
from tests.data.own_data import world

# A build takes too long to look for a smaller failing case; the seed names the case well enough.
BUILDS = settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate])


@BUILDS
@given(
    seed=st.integers(0, 2**32 - 1),
    num_events=st.integers(20, 80),
    stride=st.sampled_from([1, DAY]),  # windows of 7 and 28 days begin in the second of an event
)
def test_examples_and_histories_are_those_of_a_plain_join(
    tmp_path_factory, seed, num_events, stride
):
    tables = world.make_tables(seed, num_events=num_events, stride=stride)
    dataset = world.build(tmp_path_factory.mktemp("world"), tables)
    assert world.found_examples(dataset, tables) == world.expected_examples(tables)


@pytest.mark.parametrize(
    ("user", "changed"),
    [
        ("u0", {"count/view": 3, "age/view": 1, "count/view/item": 3, "age/view/item": 1}),
        ("nobody", {}),  # has no impressions
    ],
)
def test_an_event_counts_if_it_is_before_the_request(tmp_path, tables, user, changed):
    """Not in its second, nor later; by kind and id, how many columns another event changes."""
    now = world.START + 9 * DAY
    last = {**tables["impressions"][0], "who": "u0", "time": str(now), "item": "1"}
    found = {}
    for later in (None, 0, 1, -1):
        view = {**tables["view"][0], "user": user, "time": str(now + (later or 0)), "item": "1"}
        more = {"impressions": [last], "view": [] if later is None else [view]}
        dataset = world.build(
            tmp_path / str(later),
            {name: [*rows, *more.get(name, [])] for name, rows in tables.items()},
        )
        test = dataset.splits["test"]
        found[later] = test.dense[test.request_times == now].squeeze(0)
    np.testing.assert_array_equal(found[0], found[None])
    np.testing.assert_array_equal(found[1], found[None])
    rise = {
        feature.name: after - before
        for feature, before, after in zip(dataset.schema.dense, found[None], found[-1], strict=True)
        if not np.array_equal(before, after, equal_nan=True)
    }
    columns = [name.removesuffix("/7d").removesuffix("/28d") for name in rise]
    assert collections.Counter(columns) == {**changed, "popularity/view/item": 2}
    assert {rise[name] for name in rise if not name.startswith("age")} == {1}


def test_without_counts_a_data_set_is_as_it_was_before_there_were_any(tmp_path, tables, dataset):
    schema = dataclasses.replace(world.SCHEMA, cross=(), popularity=())
    plain = world.build(tmp_path, tables, schema=schema)
    assert not {"cross", "popularity"} & plain.manifest["schema"].keys()
    assert plain.schema.dense == dataset.schema.dense[:1]
    for name, examples in plain.splits.items():
        expected = dataset.splits[name]
        np.testing.assert_array_equal(examples.dense, expected.dense[:, :1])
        np.testing.assert_array_equal(examples.users, expected.users)


@BUILDS
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(tmp_path_factory, tables, dataset, seed):
    shuffled = {name: random.Random(seed).sample(r, len(r)) for name, r in tables.items()}
    other = world.build(tmp_path_factory.mktemp("shuffled"), shuffled)
    assert other.identity == dataset.identity


def test_four_workers_write_the_same_bytes(tmp_path, tables, dataset):
    other = world.build(tmp_path, tables, workers=4)
    assert files_in(other.directory) == files_in(dataset.directory)


def test_parquet_gives_the_same_data_set(tmp_path, tables, dataset):
    for name, rows in tables.items():
        columns = {key: [row[key] or None for row in rows] for key in rows[0]}
        for key in ("time", "at"):
            if key in columns:
                seconds = np.array([int(v) for v in columns[key]])
                columns[key] = seconds.astype("datetime64[s]").astype("datetime64[us]")
        if "tags" in columns:
            columns["tags"] = [v.split("|") if v else v for v in columns["tags"]]
        if "click" in columns:
            columns["click"] = [v.lower() in ("1", "true") for v in columns["click"]]
            columns["buy"] = pa.array([int(v) for v in columns["buy"]], pa.uint8())
            columns["importance"] = [float(v) for v in columns["importance"]]
            columns["price"] = [float(v) if v else None for v in columns["price"]]
        table = pa.table(columns)
        half = len(rows) // 2
        (tmp_path / name).mkdir()
        pq.write_table(table.slice(0, half), tmp_path / name / "a.parquet")
        pq.write_table(table.slice(half), tmp_path / name / "b.parquet")
    events = [f"{name}={tmp_path / name}" for name in ("view", "order")]
    inputs = Inputs.parse(world.SCHEMA, str(tmp_path / "impressions" / "*.parquet"), events)
    build_own_data(world.SCHEMA, inputs, tmp_path / "built", num_shards=3)
    assert Dataset.open(tmp_path / "built").identity == dataset.identity


def test_times_as_text_with_a_zone(tmp_path, tables, dataset):
    text = {
        name: [
            {
                key: str(np.datetime64(int(value) + 7200, "s")) + "+02:00"
                if key in ("time", "at")
                else value
                for key, value in row.items()
            }
            for row in rows
        ]
        for name, rows in tables.items()
    }
    assert world.build(tmp_path, text).identity == dataset.identity


def test_hashed_ids_are_those_of_the_documented_hash(dataset):
    digests = [hashlib.md5(site).digest() for site in (b"s1", b"s2")]
    expected = {1 + int.from_bytes(digest[8:], "little") % 5 for digest in digests}
    train = dataset.splits["train"]
    found = train.sparse["site"][train.sparse_lengths["site"] > 0, 0]
    assert set(found.tolist()) == expected


class TestDoubleHashing:
    """Tags, in lists and in events, and items have pairs of ids."""

    VIEW, ORDER = world.SCHEMA.streams
    SCHEMA = dataclasses.replace(
        world.SCHEMA,
        vocabularies={"item": Hashed(7, num_hashes=2), "tag": Hashed(5, num_hashes=2)},
        streams=(dataclasses.replace(VIEW, max_len=64), ORDER),
    )

    @pytest.fixture(scope="class")
    @classmethod
    def hashed(cls, tmp_path_factory, tables):
        return world.build(tmp_path_factory.mktemp("hashed"), tables, schema=cls.SCHEMA)

    def test_columns_hold_pairs_of_the_documented_hashes(self, hashed, tables):
        def pair(text, num_ids):
            digest = hashlib.md5(text.encode()).digest()
            halves = (digest[8:], digest[:8])
            first, second = (1 + int.from_bytes(h, "little") % num_ids for h in halves)
            return first + (second << 32)

        rows = {
            (
                row["who"],
                int(row["time"]),
                pair(row["item"], 7) if row["item"] else 0,
                *(pair(t, 5) for t in row["tags"].split("|")[:2] if t),
            )
            for row in tables["impressions"]
        }
        users = sorted({row["who"] for row in tables["impressions"]})
        found = {
            (users[user], int(time), int(item), *tags[:count].tolist())
            for examples in hashed.splits.values()
            for user, time, item, tags, count in zip(
                examples.users,
                examples.request_times,
                examples.sparse["item"][:, 0],
                examples.sparse["tags"],
                examples.sparse_lengths["tags"],
                strict=True,
            )
        }
        assert found == rows
        log = hashed.logs["view"]
        assert set(log.ids["tag"].tolist()) == {pair("a", 5), pair("d", 5)}
        vocabulary = hashed.schema.vocabulary_by_name["item"]
        assert hashed_ids(["1", 'q"uote'], vocabulary).tolist() == [pair("1", 7), pair('q"uote', 7)]

    def test_a_request_of_text_gets_the_batch_of_its_example(self, hashed, tables):
        examples, lens = hashed.splits["test"], {"view": 64}
        users = sorted({row["who"] for row in tables["impressions"]})
        user, time = users[examples.users[0]], int(examples.request_times[0])
        source = BatchSource(hashed, split="test", batch_size=1, max_lens=lens, shuffle=False)
        expected = source[0]
        assert expected.sparse["tags"].ids.shape == (1, 2, 2)
        assert expected.streams["view"].ids["tag"].shape == (1, 64, 2)
        batches = [
            batch_requests([request], hashed.schema, max_lens=lens)
            for request in self.requests(tables, user, time)
        ]
        same = [
            all(
                np.array_equal(got.sparse[name].ids, values.ids)
                for name, values in expected.sparse.items()
            )
            for got in batches
        ]
        assert any(same)
        views = batches[same.index(True)].streams["view"].ids
        for name, ids in expected.streams["view"].ids.items():
            np.testing.assert_array_equal(np.sort(views[name], axis=1), np.sort(ids, axis=1))

    def requests(self, tables, user, time):
        views = [r for r in tables["view"] if r["user"] == user]
        views.sort(key=lambda r: int(r["time"]))
        history = RequestEvents(
            times=[int(r["time"]) for r in views],
            ids={
                "item": [r["item"] or None for r in views],
                "tag": [r["tag"] for r in views],
            },
        )
        for row in tables["impressions"]:
            if (row["who"], int(row["time"])) == (user, time):
                sparse = {
                    "item": row["item"] or None,
                    "tags": [t for t in row["tags"].split("|") if t],
                    "site": None,
                }
                yield Request(time, sparse=sparse, events={"view": history})

    def test_the_manifest_and_the_card_report_collisions(self, hashed, tables, tmp_path):
        values = {r["item"] for rows in tables.values() for r in rows if r["item"]}
        schema = hashed.schema.vocabulary_by_name["item"]
        ids = hashed_ids(sorted(values), schema)
        looks = [tuple(sorted((i & 0xFFFFFFFF, i >> 32))) for i in ids.tolist()]
        collided = sum(looks.count(look) > 1 for look in looks)
        entry = hashed.manifest["hashed_vocabularies"]["item"]
        assert (entry["values"], entry["num_ids"], entry["hashes"]) == (len(values), 7, 2)
        assert entry["collision_rate"] == collided / len(values)
        expected = expected_collision_rate(len(values), 7, 2)
        assert entry["expected_collision_rate"] == expected
        card = write_card(validate(hashed.directory), tmp_path).read_text()
        assert f"| `item` | {len(values)} | 7 | 2 |" in card


def test_splits_by_user(tmp_path, tables):
    schema = dataclasses.replace(world.SCHEMA, split=ByUser(0.25, 0.25, seed=3))
    dataset = world.build(tmp_path, tables, schema=schema)
    users = [set(examples.users.tolist()) for examples in dataset.splits.values()]
    assert all(users)
    assert sum(map(len, users)) == dataset.num_users == len(set.union(*users))


def test_splits_by_date(tmp_path, tables):
    day = 86_400
    spread = [{**r, "time": str(int(r["time"]) // day * day + day * (i % 10) + 5)}
              for i, r in enumerate(tables["impressions"])]  # fmt: skip
    schema = dataclasses.replace(world.SCHEMA, split=ByDate("2020-09-20", "2020-09-21"))
    dataset = world.build(tmp_path, {**tables, "impressions": spread}, schema=schema)
    starts = [int(np.datetime64(d, "s").astype(int)) for d in ("2020-09-20", "2020-09-21")]
    times = [examples.request_times for examples in dataset.splits.values()]
    assert times[0].max() < starts[0] <= times[1].min()
    assert times[1].max() < starts[1] <= times[2].min()


def test_a_value_seen_once_is_unknown_and_the_manifest_tells_the_share(tmp_path, tables):
    rows = [dict(row) for row in tables["impressions"]]
    min(rows, key=lambda row: int(row["time"]))["item"] = "seen once"
    dataset = world.build(tmp_path, {**tables, "impressions": rows})
    for split, examples in dataset.splits.items():
        real = examples.sparse_lengths["item"] > 0
        expected = (examples.sparse["item"][real, 0] == 0).mean()
        assert dataset.manifest["oov_shares"][split]["item"] == pytest.approx(expected)
    assert 0 < dataset.manifest["oov_shares"]["train"]["item"] < 0.1


def test_the_same_tables_are_not_built_twice(tmp_path, tables):
    dataset = world.build(tmp_path, tables)
    before = (dataset.directory / "dataset.json").stat().st_mtime_ns
    inputs = world.write_tables(tmp_path / "tables", tables)
    build_own_data(world.SCHEMA, inputs, dataset.directory)
    assert (dataset.directory / "dataset.json").stat().st_mtime_ns == before
    world.write_tables(tmp_path / "tables", world.make_tables(1))
    with pytest.raises(DatasetError, match="exists already, made from another schema or other"):
        build_own_data(world.SCHEMA, inputs, dataset.directory)


def test_an_interrupted_build_does_not_stage_again(tmp_path, tables, dataset, monkeypatch):
    from kunlun_jax.data.building import shards as shards_module

    def fail(path):
        raise OSError("disk full")

    with monkeypatch.context() as context, pytest.raises(OSError, match="disk full"):
        context.setattr(shards_module, "file_sha256", fail)
        world.build(tmp_path, tables)
    statements = []
    execute = engine.Engine.execute
    monkeypatch.setattr(
        engine.Engine, "execute", lambda self, sql: statements.append(sql) or execute(self, sql)
    )
    assert files_in(world.build(tmp_path, tables).directory) == files_in(dataset.directory)
    assert not [sql for sql in statements if "COPY" in sql]


def test_without_beam_the_build_by_beam_says_what_to_install(tmp_path, tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "kunlun_jax.data.own_data.beam.pipeline", None)
    with pytest.raises(ImportError, match=r"no Apache Beam .*pip install 'kunlun_jax\[beam\]'"):
        world.build(tmp_path, tables, beam_options=[])


@pytest.mark.parametrize(
    ("column", "known", "unknown"), [("site", "s1", "s2"), ("tags", "a|b", "a"), ("site", "s1", "")]
)
def test_a_category_that_knows_the_label_is_refused(tmp_path, column, known, unknown):
    tables = world.make_tables(0, num_users=100, num_requests=400)
    for row in tables["impressions"]:
        row[column] = known if row["click"] in ("1", "true") else unknown
    with pytest.raises(SchemaError) as error:
        world.build(tmp_path, tables)
    assert str(error.value) == (
        f"{tmp_path / 'tables' / 'impressions.csv'}: split 'train': column {column!r}: leak of "
        "label 'click': expected this column alone to reach an AUC of at most 0.98 on users that "
        "it was not fitted to, got 1.0000"
    )


def test_two_spellings_of_items_are_findings(tmp_path, tables):
    spelt = {
        name: [{**row, "item": f"{row['item']}.0" if row["item"] else ""} for row in rows]
        for name, rows in tables.items()
        if name != "impressions"
    }
    dataset = world.build(tmp_path, {**tables, **spelt})
    found = dataset.manifest["findings"]
    assert [line for line in found if line.endswith("such as '1' and '1.0'")], found
    assert [line for line in found if line.startswith("candidate 'item': expected at most 50.00%")]
    assert set(found) <= set(validate(dataset.directory).findings)


def test_blanks_and_texts_for_nothing_change_nothing(tmp_path, tables, dataset):
    """Of CSV; the times have fractions of a second besides."""
    dirty = {name: [dict(row) for row in rows] for name, rows in tables.items()}
    nothing = itertools.cycle(["", " ", "NULL", "nan", "None", r"\N", "#N/A"])
    for row in itertools.chain.from_iterable(dirty.values()):
        for column in row:
            if not row[column]:
                row[column] = next(nothing)
            if column in ("time", "at"):
                row[column] += ".999999999"
            if column == "tags" and row[column] == "a|b":
                row[column] = "NULL| a||b |\t"
            elif column != "state":
                row[column] = f" {row[column]}\t"
    assert world.build(tmp_path, dirty).identity == dataset.identity


def test_a_file_that_is_written_anew_depends_on_its_rows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 10)
    table = pa.table({"value": [str(i) for i in range(47)]})
    contents = []
    for name, sizes in (("one", [47]), ("many", [3, 0, 29, 15]), ("groups", [25, 22])):
        ends = np.cumsum([0, *sizes])
        sources = []
        for start, end in itertools.pairwise(ends):
            sources.append(tmp_path / f"{name}-{start}-{end}")
            pq.write_table(table.slice(start, end - start), sources[-1], row_group_size=7)
        target = tmp_path / name
        engine.rewrite(
            sources,
            target,
            lambda first, rows: {
                "id": np.arange(first, first + rows.num_rows),
                "value": rows.column(0),
            },
        )
        assert not any(source.exists() for source in sources)
        contents.append(target.read_bytes())
    assert contents[0] == contents[1] == contents[2]
    assert pq.read_table(target)["id"].to_pylist() == list(range(47))


@pytest.mark.parametrize(
    ("impressions", "events", "message"),
    [
        (None, ["view=v.csv", "order=o.csv"], "impressions: expected files, got none"),
        ("i.csv", ["view=v.csv"], "order: expected files, got none"),
        ("i.csv", ["v.csv"], r"expected STREAM=FILES once for each of \['view', 'order'\]"),
        ("i.csv", ["view=v.csv", "view=v.csv"], "expected STREAM=FILES once"),
        ("gone.csv", ["view=v.csv", "order=o.csv"], "gone.csv: expected files .* found none"),
        ("notes.txt", ["view=v.csv", "order=o.csv"], "notes.txt: expected CSV or TSV"),
    ],
)
def test_files_that_are_not_there(tmp_path, monkeypatch, impressions, events, message):
    monkeypatch.chdir(tmp_path)
    for name in ("i.csv", "v.csv", "o.csv", "notes.txt"):
        pathlib.Path(name).touch()
    with pytest.raises(SchemaError, match=message):
        Inputs.parse(world.SCHEMA, impressions, events).check_exist(world.SCHEMA)
