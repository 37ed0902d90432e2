"""Cross features of requests are those of the build, or refused."""

import dataclasses

import jax
import numpy as np
import pytest

from kunlun_jax.data import BatchSource, Events, Request, RequestError, batch_requests
from tests.data import toy
from tests.data.reading.test_requests import LENGTHS, NOW, request_of

SCHEMA = dataclasses.replace(
    toy.COUNTED_SCHEMA,
    dense=tuple(
        dataclasses.replace(f, log1p=False, mean=0.0, std=1.0) for f in toy.COUNTED_SCHEMA.dense
    ),
)
NAMES = [f.name for f in SCHEMA.dense]
COUNTS = [column.name for cross in SCHEMA.cross for column in cross.columns]
TIMES = [NOW - 5, NOW - 10, NOW - 2 * toy.DAY, NOW]  # the last one is too late
CLICKS = Events(times=TIMES, ids={"item": [3, 4, 3, 3]})
ITEM_COUNTS = {
    "count/click": 3, "count/click/1d": 2, "count/click/item": 2, "count/click/item/1d": 1,
}  # fmt: skip


def counts(events=CLICKS, **given):
    """Return the dense features of a request of item 3, by name, as the model reads them."""
    request = Request(NOW, dense=given, sparse={"item": 3}, events={"click": events})
    (dense,) = batch_requests([request], SCHEMA, max_lens={"visit": 2}).dense
    return dict(zip(NAMES, dense.tolist(), strict=True))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("toy") / "counted"
    return toy.toy_dataset(directory, tables=toy.counted(toy.toy_tables()))


@pytest.mark.parametrize("computed", [(), COUNTS, COUNTS[::2]])
def test_every_example_of_a_split(dataset, computed):
    count = len(dataset.splits["test"])
    source = BatchSource(dataset, split="test", batch_size=count, max_lens=LENGTHS, shuffle=False)
    expected = source[0]
    requests = [request_of(dataset, "test", row) for row in range(count)]
    requests = [
        dataclasses.replace(r, dense={n: x for n, x in r.dense.items() if n not in computed})
        for r in requests
    ]
    got = batch_requests(requests, dataset.schema, max_lens=LENGTHS)
    np.testing.assert_array_equal(got.dense, expected.dense)
    jax.tree.map(np.testing.assert_array_equal, got.streams, expected.streams)


def test_of_events_what_is_not_given():
    found = counts()
    assert {name: found[name] for name in ITEM_COUNTS} == ITEM_COUNTS
    assert found["age/click/item"] == np.float32(5 / toy.DAY)
    assert found["count/visit"] == found["age/visit"] == 0.0
    assert found["popularity/click/item/1d"] == 0.0  # the mean


def test_more_may_be_counted_than_the_events_say():
    found = counts(**{"count/click": 9, "count/click/item": 7, "popularity/click/item/1d": 4})
    assert (found["count/click"], found["count/click/item"]) == (9, 7)
    assert found["count/click/item/1d"] == 1
    old = counts(
        Events(), **{"count/click": 9, "age/click": 2, "count/click/item": 7, "age/click/item": 3}
    )
    assert old["age/click/item"] == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count/click/item": 1}, r"'count/click/item': expected at least 2, what its events say"),
        ({"count/visit": -1}, r"'count/visit': expected a whole number >= 0, got -1"),
        ({"count/visit": 0.5}, r"'count/visit': expected a whole number >= 0, got 0.5"),
        ({"count/click/item": 4}, r"'count/click/item': expected at most 3, that of 'count/click'"),
        (
            {"count/click/1d": 3, "count/click/item/1d": 3},
            r"'count/click/item/1d': expected at most 2, that of 'count/click/item', got 3",
        ),
        ({"age/click": -1.0}, r"'age/click': expected days >= 0, got -1"),
        (
            {"age/click/item": 1.0},
            r"'age/click/item': expected at most 5.78\d*e-05, the age of its",
        ),
        ({"age/visit": 1.0}, r"'age/visit': expected none, as the count is 0, got 1"),
        ({"count/visit": 2}, r"'age/visit': expected a number, as the count is 2, got none"),
        ({"popularity/click/item/1d": 0}, r"'popularity/click/item/1d': expected at least 1, what"),
        (
            {"popularity/click/item/1d": 5, "popularity/click/item/2d": 4},
            r"'popularity/click/item/1d': expected at most 4, that of 'popularity/click/item/2d'",
        ),
    ],
)
def test_refuses_what_contradicts_itself(given, message):
    good = Request(NOW)
    bad = Request(NOW, dense=given, sparse={"item": 3}, events={"click": CLICKS})
    with pytest.raises(RequestError, match=f"^request 1: dense {message}"):
        batch_requests([good, bad], SCHEMA, max_lens=LENGTHS)


def test_the_future_changes_nothing():
    later = Events(times=[*TIMES, NOW, NOW + 1], ids={"item": [3, 4, 3, 3, 3, 3]})
    assert counts(later) == counts()
