"""What a build finds in tables that can be read: said in the summary, kept, and found again."""

import dataclasses
import json

import pytest

from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.own_data import Events, Limits, TableSchema
from kunlun_jax.data.validate import validate
from tests.data.own_data import world

USERS = 20
SCHEMA = TableSchema(
    name="shop", sparse=("item",), candidate=("item",), streams=(Events("view", ids=("item",)),)
)


def tables(*, shown=str, seen=str):
    """Each user has six requests and six events; `shown` and `seen` spell the user of a row."""
    moment = world.START
    impressions = [
        {"user": shown(f"{i % USERS + 1}", i), "time": moment + 9 * i, "item": f"i{i * 7 % 11}",
         "label": (i // 3 + i) % 2}
        for i in range(6 * USERS)
    ]  # fmt: skip
    views = [
        {"user": seen(f"{i % USERS + 1}", i), "time": moment - 9 * i, "item": f"i{i * 5 % 11}"}
        for i in range(6 * USERS)
    ]
    return {"impressions": impressions, "view": views}


def plain(user, row):
    del row
    return user


def built(place, *, schema=SCHEMA, **spelled):
    """Build, and return what dataset.json and validation find, which has to be the same."""
    inputs = world.write_tables(place, tables(**{"shown": plain, "seen": plain, **spelled}))
    build_own_data(schema, inputs, place / "built", num_shards=2)
    manifest = json.loads((place / "built" / "dataset.json").read_text())
    again = [line for line in validate(place / "built").findings if line in manifest["findings"]]
    assert again == manifest["findings"]
    return manifest


def test_tables_that_agree_have_no_finding(tmp_path):
    manifest = built(tmp_path)
    assert manifest["findings"] == []
    assert manifest["source_rows"]["users"] == {"respelled": 0, "pair": []}


@pytest.mark.parametrize(
    "other",
    [lambda u: f"{u}.0", lambda u: f"{u:0>5}", lambda u: f"{u}-x"],
    ids=["as a float", "zeros", "others"],
)
def test_events_whose_user_has_no_request(tmp_path, other):
    half = lambda user, row: other(user) if row % 2 else user  # noqa: E731
    manifest = built(tmp_path / "half", seen=half)
    (line,) = manifest["findings"]
    assert line == (
        "stream 'view': expected at most 25.00% of events whose user has no request, got 50.00%; "
        "are users spelled alike in both tables?"
    )
    left_out = manifest["source_rows"]["tables"]["view"]["left_out"]
    assert left_out == {"where": 0, "user_without_impressions": 3 * USERS}
    fifth = lambda user, row: other(user) if row % 5 == 0 else user  # noqa: E731
    assert built(tmp_path / "fifth", seen=fifth)["findings"] == []
    lenient = dataclasses.replace(SCHEMA, limits=Limits(stranger_share=0.5))
    assert built(tmp_path / "lenient", schema=lenient, seen=half)["findings"] == []


@pytest.mark.parametrize(
    ("respelled", "pair"),
    [
        (lambda u: f"{u}.0", "'1' and '1.0'"),
        (lambda u: f"{u:0>5}", "'00001' and '1'"),
        (lambda u: f"\u200b{u}", "'1' and '\\u200b1'"),
        (lambda u: f"{u[0]} {u[1:]}", "'1 0' and '10'"),
    ],
    ids=["as a float", "zeros", "a blank of no width", "blanks"],
)
def test_users_of_two_spellings(tmp_path, respelled, pair):
    """Each has half of its requests and of its events, so that no event is a stranger's."""
    half = lambda user, row: respelled(user) if row // USERS % 2 else user  # noqa: E731
    manifest = built(tmp_path, shown=half, seen=half)
    lines = [line for line in manifest["findings"] if line.startswith("users: ")]
    (line,) = lines
    assert line.startswith(
        "users: expected at most 1.00% of values that equal another but for '.0', blanks, case or "
        "leading zeros, got "
    )
    assert line.endswith(f", such as {pair}")
