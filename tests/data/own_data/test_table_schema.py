import dataclasses

import pytest

from kunlun_jax.data import SchemaError
from kunlun_jax.data.own_data import (
    Built,
    ByDate,
    ByTime,
    ByUser,
    Cross,
    DenseFeature,
    Events,
    Hashed,
    Popularity,
    SparseFeature,
    TableSchema,
    load_schema,
)
from tests.documents import blocks

VIEW = Events("view", ids=("item",))
SCHEMA = TableSchema(
    name="shop", sparse=("item", "site"), candidate=("item",), dense=("price",), streams=(VIEW,)
)


def test_names_stand_for_features():
    schema = SCHEMA.schema({"item": 7, "site": 3})
    assert schema.sparse == (SparseFeature("item", "item"), SparseFeature("site", "site"))
    assert schema.dense[0] == DenseFeature("price")
    cross = [f"{kind}/view{of}{days}" for of in ("", "/item") for kind, days in (
        ("count", ""), ("count", "/7d"), ("count", "/28d"), ("age", ""))]  # fmt: skip
    popular = [f"popularity/view/item/{days}d" for days in (7, 28)]
    assert [f.name for f in schema.dense[1:]] == [*cross, *popular]
    none = dataclasses.replace(SCHEMA, cross=(), popularity=())
    assert none.schema({"item": 7, "site": 3}).dense == (DenseFeature("price"),)
    assert schema.streams[0].ids[0].vocabulary == "item"
    assert SCHEMA.vocabulary_names == ["item", "site"]
    assert SCHEMA.vocabulary("item") == Built()


def test_the_documented_counts(tmp_path):
    (block,) = blocks("docs/data.md", "## Cross features", "python")
    (tmp_path / "schema.py").write_text(block)
    sizes = dict.fromkeys(("item", "category", "device"), 9)
    schema = load_schema(tmp_path / "schema.py").schema(sizes)
    assert [f.name for f in schema.dense] == [
        *("count/view/1d", "count/view/7d", "age/view"),
        *("count/view/item/1d", "count/view/item/7d", "age/view/item"),
        *("popularity/view/item/28d", "popularity/view/category/28d"),
    ]


def test_events_have_the_user_and_time_of_the_impressions_unless_they_say_otherwise():
    streams = (
        VIEW,
        Events("order", ids=("item",), user="buyer"),
        Events("like", ("item",), time="at"),
    )
    schema = dataclasses.replace(SCHEMA, user="customer", time="shown_at", streams=streams)
    found = [(table.user, table.time) for table in schema.streams]
    assert found == [("customer", "shown_at"), ("buyer", "shown_at"), ("customer", "at")]
    assert schema.streams[0].column_names == ["customer", "shown_at", "item"]
    assert [(table.user, table.time) for table in SCHEMA.streams] == [("user", "time")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": ()}, "streams: expected at least one, got none"),
        ({"labels": ()}, "labels: expected at least one, got none"),
        ({"dense": ("label",)}, "column 'label': a label, time or weight cannot be a feature"),
        ({"sparse": ("item", "time")}, "column 'time': a label, time or weight cannot be"),
        ({"weight": "price"}, "column 'price': a label, time or weight cannot be a feature"),
        ({"candidate": ("colour",)}, r"candidate: no sparse feature named \['colour'\]"),
        ({"dense": ("price", "item")}, r"context feature named more than once: \['item'\]"),
        ({"vocabularies": {"colour": Built()}}, "vocabularies: no feature uses 'colour'"),
        ({"vocabularies": {"item": Hashed(0)}}, "vocabulary 'item': expected at least 1, got 0"),
        ({"vocabularies": {"item": Hashed(9, 0)}}, "vocabulary 'item': expected 1 or 2 hashes"),
        ({"vocabularies": {"item": Built(0)}}, "vocabulary 'item': expected at least 1, got 0"),
        ({"split": ByTime(0.5, 0.5)}, "split: expected positive shares whose sum is below 1"),
        ({"split": ByUser(0.0, 0.5)}, "split: expected positive shares whose sum is below 1"),
        ({"split": ByDate("2024-03-01", "2024-03-01")}, "split: expected validation before test"),
        ({"split": ByDate("March", "2024-03-01")}, "split: expected dates as '2024-03-01'"),
        ({"streams": (dataclasses.replace(VIEW, name="impressions"),)}, "expected another name"),
        ({"cross": (Cross("order"),)}, r"cross: stream: expected one of \['view'\], got 'order'"),
        ({"popularity": (Popularity("view", ("site",), (7,)),)}, "popularity: ids: expected ids"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(SchemaError, match=message):
        dataclasses.replace(SCHEMA, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SCHEMA = 3", "my.py: expected SCHEMA to be a TableSchema, got int"),
        ("", "my.py: expected SCHEMA to be a TableSchema, got NoneType"),
        ("1 / 0", "my.py: ZeroDivisionError: division by zero"),
        ("def", "my.py: SyntaxError"),
        (None, "my.py: FileNotFoundError"),
    ],
)
def test_files_without_a_schema_are_refused(tmp_path, text, message):
    path = tmp_path / "my.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SchemaError, match=message):
        load_schema(path)
