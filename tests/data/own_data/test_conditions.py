"""Conditions of a schema, `where`: what is wrong with one is a line that quotes it."""

import dataclasses
import re

import pytest

from kunlun_jax.data import Dataset, SchemaError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.own_data import Events, TableSchema
from kunlun_jax.data.own_data.inputs import Inputs

SCHEMA = TableSchema(
    name="shop",
    sparse=("item",),
    candidate=("item",),
    streams=(Events("view", ids=("item",)),),
)
# Words of an engine, and of a traceback.
FOREIGN = r"Error|Binder|Parser|Catalog|Conversion|DuckDB|LINE|FROM clause|VARCHAR|INT32|LIMIT"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    place = tmp_path_factory.mktemp("tables")
    shown = [f"u{i % 5},{1_700_000_000 + 60 * i},{i % 2},i{i % 3}\n" for i in range(40)]
    (place / "impressions.csv").write_text("user,time,label,item\n" + "".join(shown))
    seen = [
        f"u{i % 5},{1_690_000_000 + i},i{i % 3},{'view' if i % 4 else 'cart'},"
        f"{'-' if i == 7 else i}\n"
        for i in range(40)
    ]
    (place / "log.csv").write_text("user,time,item,kind,price\n" + "".join(seen))
    return place


def build(tables, out, where, table="events"):
    changes = {"where": where}
    if table == "events":
        changes = {"streams": (dataclasses.replace(SCHEMA.streams[0], where=where),)}
    schema = dataclasses.replace(SCHEMA, **changes)
    inputs = Inputs.parse(schema, str(tables / "impressions.csv"), [f"view={tables / 'log.csv'}"])
    build_own_data(schema, inputs, out)
    return Dataset.open(out)


@pytest.mark.parametrize(
    ("where", "events"),
    [
        ("kind = 'view'", 30),
        ("kind = 'view' -- not those in the cart", 30),
        ("kind = 'view' OR kind = 'cart'", 40),
        ("TRY_CAST(price AS DOUBLE) >= 20", 20),  # nothing is not true
        ("\"kind\" LIKE 'c%'\n", 10),
        ("date_part('year', to_timestamp(CAST(time AS BIGINT))) = 2023", 40),
        ("hash(item) % 2 >= 0 AND kind = 'view'", 30),
    ],
)
def test_a_condition_takes_some_of_the_rows(tables, tmp_path, where, events):
    assert build(tables, tmp_path / "set", where).manifest["counts"]["events"] == {"view": events}


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("kind = 'view", "not SQL, or not complete"),
        ("kind ==", "not SQL, or not complete"),
        ("1 = 1) --", "not SQL, or not complete"),
        ("kind = 'view'; DROP TABLE x", "not SQL, or not complete"),
        ("kind = 'view' ORDER BY kind", "not SQL, or not complete"),
        ("kindd = 'view'", "no column 'kindd'"),
        ("log.kind = 'view'", "no column 'log'"),
        ("is_view(kind)", "no function 'is_view'"),
        ("price > 3", "a text is compared with a number"),
        ("count(*) > 1", "one row has to decide, not several"),
        ("row_number() OVER () < 3", "one row has to decide, not several"),
        ("kind", "neither true nor false"),
        ("5", "neither true nor false, but INTEGER"),
        ("true, false", "neither true nor false|not SQL"),
        ("CAST(price AS INT) > 3", "got a value in row 8 "),
        ("price IN (1, 2)", "got a value in row 8 "),
        ("random() < 0.5", r"random\(\) does not depend on the row alone"),
        ("kind = 'view' AND CASE WHEN Random() < 0.5 THEN true ELSE false END", r"random\(\) does"),
        ("CAST(uuid() AS TEXT) < item", r"uuid\(\) does not depend on the row alone"),
        ("now() > make_timestamp(2020, 1, 1, 0, 0, 0)", r"now\(\) does not depend on the row"),
        ("current_date > DATE '2020-01-01'", "current_date does not depend on the row alone"),
        ("current_setting('threads') = '1'", r"current_setting\(\) does not depend on the row"),
        ("item IN (SELECT 'i1')", "a query of its own does not depend on the row alone"),
        ("EXISTS (SELECT 1)", "a query of its own does not depend on the row alone"),
        ("kindd = 'view' AND " * 40 + "true", "no column 'kindd'"),
        ("kïnd = '\U0001f6d2'\n\n", "no column 'kïnd'"),
    ],
)
def test_a_wrong_condition_is_a_line_that_quotes_it(tables, tmp_path, where, reason):
    check_refusal(tables, tmp_path, where, reason, "events")


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("kind = 'view'", "no column 'kind'"),  # there is one in the other table
        ("label > 0", "a text is compared with a number"),
        ("CAST(item AS INT) > 1", "got a value in row 1 "),
    ],
)
def test_so_is_one_of_the_impressions(tables, tmp_path, where, reason):
    check_refusal(tables, tmp_path, where, reason, "impressions")


def check_refusal(tables, tmp_path, where, reason, table):
    with pytest.raises(SchemaError, match=reason) as raised:
        build(tables, tmp_path / "set", where, table)
    message = str(raised.value)
    quoted = " ".join(where.split())[:80]
    file = "log.csv" if table == "events" else "impressions.csv"
    assert f'{file}: where "{quoted}' in message
    assert len(message) <= 300
    assert "\n" not in message
    assert not re.search(FOREIGN, message.replace(quoted, "")) or "neither" in message
    assert not (tmp_path / "set").exists()
