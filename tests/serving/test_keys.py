"""Keys of tables become the very ids that a build gives them."""

import collections
import dataclasses

import numpy as np
import pytest

from kunlun_jax.data import DatasetError, Events, Request, RequestError
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.metadata import copy_metadata, read_vocabularies
from kunlun_jax.data.reading.requests import request_columns
from kunlun_jax.data.tables import Examples
from kunlun_jax.serving.keys import Keys
from tests.data.own_data import world

LATER = world.START + 10**6


@pytest.fixture(scope="module")
def tables():
    return world.make_tables(3)


@pytest.fixture(scope="module")
def dataset(tables, tmp_path_factory):
    return world.build(tmp_path_factory.mktemp("world"), tables)


@pytest.fixture(scope="module")
def keys(dataset):
    return Keys(dataset.schema, read_vocabularies(dataset.directory, dataset.manifest))


def number(text):
    return None if text == "" else float(text)


def whole(text):
    """Return an integer where a text is one: a table's key, as a table of integers has it."""
    return int(text) if text.isdecimal() else text


def contexts(examples: Examples):
    """Count what examples have of the context."""
    return collections.Counter(
        (
            int(examples.request_times[i]),
            examples.dense[i, :1].tobytes(),  # the price; what is counted needs the events
            *(ids[i, : examples.sparse_lengths[n][i]].tobytes()
              for n, ids in examples.sparse.items()),
        )
        for i in range(len(examples))
    )  # fmt: skip


@pytest.mark.parametrize("as_key", [str, whole, " {} ".format])
def test_every_request_of_the_tables(dataset, keys, tables, as_key):
    requests = [
        Request(
            int(row["time"]),
            dense={"price": number(row["price"])},
            sparse={
                "item": as_key(row["item"]),
                "tags": [as_key(tag) for tag in row["tags"].split("|")],
                "site": row["site"] or None,
            },
        )
        for row in tables["impressions"]
    ]
    numbered = [keys.numbered(request, "request") for request in requests]
    found = contexts(request_columns(numbered, dataset.schema, {}).examples)
    expected = collections.Counter()
    for part in dataset.splits.values():
        dense = standardize(part.dense, dataset.schema.dense)
        expected += contexts(dataclasses.replace(part, dense=dense))
    assert found == expected


def test_every_history_of_the_tables(dataset, keys, tables):
    users = sorted({row["who"] for row in tables["impressions"]})
    requests = []
    for user in users:
        views = [row for row in tables["view"] if row["user"] == user]
        orders = [r for r in tables["order"] if r["buyer"] == user and r["state"] == "paid"]
        events = {
            "view": Events(
                times=[int(row["time"]) for row in views],
                ids={name: [row[name] for row in views] for name in ("item", "tag")},
                dense={"amount": [number(row["amount"]) for row in views]},
            ),
            "order": Events(
                times=[int(row["at"]) for row in orders],
                ids={"item": [whole(row["item"]) for row in orders]},
            ),
        }
        requests.append(keys.numbered(Request(LATER, events=events), "request"))
    lengths = {"view": 50, "order": 50}
    batch = request_columns(requests, dataset.schema, lengths).batch(
        np.arange(len(users)), np.ones(1, bool), lengths
    )
    stored = np.argsort(dataset.columns.users)
    for stream in dataset.schema.streams:
        log, got = dataset.columns.logs[stream.name], batch.streams[stream.name]
        for user in range(len(users)):
            place, count = stored[user], got.lengths[user]
            rows = slice(log.offsets[place], log.offsets[place + 1])
            assert count == rows.stop - rows.start
            for name, ids in log.ids.items():
                assert sorted(got.ids[name][user, :count]) == sorted(ids[rows])
            np.testing.assert_array_equal(
                np.sort(got.dense[user, :count], axis=0), np.sort(log.dense[rows], axis=0)
            )
    assert any(log.ids["item"].any() for log in dataset.logs.values())


@pytest.mark.parametrize(
    ("sparse", "expected"),
    [
        ({"item": True}, (0, 1)),  # "true", which no training row has
        ({"item": np.int64(1)}, (1, 1)),
        ({"item": np.nan}, (0, 0)),
        ({"item": "  "}, (0, 0)),
        ({"item": None}, (0, 0)),
        ({"item": 10**30}, (0, 1)),
    ],
)
def test_unusual_keys(dataset, keys, sparse, expected):
    (examples,) = (
        request_columns([keys.numbered(Request(LATER, sparse=sparse), "x")], dataset.schema, {}),
    )
    found = examples.examples
    assert (int(found.sparse["item"][0, 0]), int(found.sparse_lengths["item"][0])) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sparse": {"item": 1.0}}, "user: sparse 'item': expected an id, an integer or text, got"),
        ({"sparse": {"tags": [["a"]]}}, r"sparse 'tags': expected an id, .* got \['a'\]"),
        (
            {"events": {"view": Events(times=[1], ids={"item": [2.5]})}},
            "user: stream 'view': 'item': expected an id, an integer or text, got 2.5",
        ),
    ],
)
def test_refuses(keys, fields, message):
    with pytest.raises(RequestError, match=message):
        keys.numbered(Request(LATER, **fields), "user")


def test_a_copy_tells_the_same(dataset, tmp_path):
    copy_metadata(dataset.directory, tmp_path / "copy")
    copy_metadata(dataset.directory, tmp_path / "copy")
    found = read_vocabularies(tmp_path / "copy", dataset.manifest)
    assert found == read_vocabularies(dataset.directory, dataset.manifest)
    assert set(found) == {"item", "tag"}
    file = next((tmp_path / "copy").rglob("*.parquet"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DatasetError, match=rf"{file.name}: damaged"):
        read_vocabularies(tmp_path / "copy", dataset.manifest)
