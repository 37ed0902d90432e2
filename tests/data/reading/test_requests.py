import dataclasses

import jax
import numpy as np
import pytest

from kunlun_jax.data import BatchSource
from kunlun_jax.data.reading.requests import Events, Request, RequestError, batch_requests
from tests.data import toy

NOW = toy.START + 2 * toy.DAY
LENGTHS = toy.MAX_LENS
SCHEMA = dataclasses.replace(
    toy.SCHEMA, dense=tuple(dataclasses.replace(f, mean=1.0, std=2.0) for f in toy.SCHEMA.dense)
)


def one(**fields):
    """Return the batch of one request."""
    return batch_requests([Request(**{"time": NOW, **fields})], SCHEMA, max_lens=LENGTHS)


def clicks(times, **columns):
    """Return one request's batch with these clicks, as arrays without the batch axis."""
    ids = {name: columns.pop(name) for name in ("item", "tag") if name in columns}
    events = one(events={"click": Events(times=times, ids=ids, dense=columns)}).streams["click"]
    return jax.tree.map(lambda x: x[0], events)


def request_of(dataset, split, row):
    """Return what a service would know about an example of the data set, in raw form."""
    examples, user = dataset.splits[split], dataset.splits[split].users[row]
    events = {}
    for stream in dataset.schema.streams:
        log = dataset.logs[stream.name]
        mine = slice(log.offsets[user], log.offsets[user + 1])  # later events too
        events[stream.name] = Events(
            times=log.times[mine],
            ids={name: ids[mine] for name, ids in log.ids.items()},
            dense={f.name: log.dense[mine, i] for i, f in enumerate(stream.dense)},
        )
    return Request(
        time=int(examples.request_times[row]),
        dense={f.name: examples.dense[row, i] for i, f in enumerate(dataset.schema.dense)},
        sparse={
            name: ids[row, : examples.sparse_lengths[name][row]]
            for name, ids in examples.sparse.items()
        },
        events=events,
    )


class TestSameAsThePipeline:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_every_example_of_a_split(self, dataset, split):
        count = len(dataset.splits[split])
        source = BatchSource(
            dataset, split=split, batch_size=count + 3, max_lens=LENGTHS, shuffle=False
        )
        requests = [request_of(dataset, split, row) for row in range(count)]
        got = batch_requests(requests, dataset.schema, max_lens=LENGTHS, batch_size=count + 3)
        expected = source[0]
        for field in ("dense", "sparse", "streams"):
            jax.tree.map(self.assert_same, getattr(got, field), getattr(expected, field))
        np.testing.assert_array_equal(got.weights > 0, expected.weights > 0)
        assert jax.tree.structure(got) == jax.tree.structure(expected)

    def assert_same(self, got, expected):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)

    def test_a_stream_the_model_does_not_take_is_left_out(self, dataset):
        batch = batch_requests(
            [request_of(dataset, "test", 0)], dataset.schema, max_lens={"visit": 2}
        )
        assert set(batch.streams) == {"visit"}


class TestOneHistoryOfSeveral:
    def test_equals_histories_of_their_own(self):
        """Requests of one user at several times share the very object of their events."""
        clicks = Events(times=[NOW - 5, NOW - 9, NOW - 1], ids={"item": [3, 1, 2]})
        shared, own = [], []
        for ago, item in ((0, 4), (3, 5), (7, 6)):
            request = Request(NOW - ago, sparse={"item": item}, events={"click": clicks})
            own.append(request)
            shared.append(dataclasses.replace(request, events=own[0].events))
        shared.append(Request(NOW))
        own.append(Request(NOW))
        got, expected = (batch_requests(r, SCHEMA, max_lens=LENGTHS) for r in (shared, own))
        jax.tree.map(np.testing.assert_array_equal, got.streams, expected.streams)
        assert got.streams["click"].lengths.tolist() == [3, 2, 1, 0]
        assert (got.user_ids.tolist(), expected.user_ids.tolist()) == ([0, 0, 0, 1], [0, 1, 2, 3])


class TestIds:
    @pytest.mark.parametrize("value", [-1, 0, toy.NUM_ITEMS + 1, 2**31 + 1, 2**40 + 1, 2**70])
    def test_without_a_row_are_out_of_vocabulary(self, value):
        item = one(sparse={"item": value}).sparse["item"]
        assert (item.ids.tolist(), item.lengths.tolist()) == ([[0]], [1])
        assert clicks([NOW - 5], item=[value]).ids["item"][0] == 0

    @pytest.mark.parametrize("value", [1, toy.NUM_ITEMS, np.int64(3), [4]])
    def test_with_a_row_stay(self, value):
        assert one(sparse={"item": value}).sparse["item"].ids[0, 0] == np.ravel(value)[0]

    @pytest.mark.parametrize("sparse", [{}, {"tags": None}, {"tags": []}])
    def test_missing(self, sparse):
        tags = one(sparse=sparse).sparse["tags"]
        assert (tags.ids.tolist(), tags.lengths.tolist()) == ([[0, 0, 0]], [0])

    def test_too_many_values(self):
        tags = one(sparse={"tags": [5, 9, 2, 1]}).sparse["tags"]
        assert (tags.ids.tolist(), tags.lengths.tolist()) == ([[5, 0, 2]], [3])


class TestDense:
    @pytest.mark.parametrize("value", [None, np.nan, np.inf, -np.inf, 1e300])
    def test_unknown_is_the_mean(self, value):
        assert one(dense={"hour": value}).dense.tolist() == one().dense.tolist() == [[0.0, 0.0]]

    def test_known_is_standardised(self):
        assert one(dense={"hour": 5}).dense[0, 1] == 2.0


class TestHistories:
    def test_missing_or_empty(self):
        for events in ({}, {"click": Events()}):
            batch = one(events=events)
            for stream in batch.streams.values():
                assert stream.lengths.tolist() == [0]
                assert not any(leaf.any() for leaf in jax.tree.leaves(stream))

    def test_the_most_recent_in_order_of_time(self):
        ages = [50, 10, 90, 20, 30, 70, 60, 40]
        got = clicks([NOW - age for age in ages], item=[1, 2, 3, 4, 5, 6, 7, 8])
        assert got.ages.tolist() == [60, 50, 40, 30, 20, 10]
        assert got.ids["item"].tolist() == [7, 1, 8, 5, 4, 2]

    def test_ties_stay_as_they_come(self):
        got = clicks([NOW - 5] * 3, item=[3, 1, 2])
        assert got.ids["item"].tolist() == [3, 1, 2, 0, 0, 0]

    def test_the_future_is_left_out(self):
        got = clicks([NOW - 1, NOW, NOW + 1], item=[3, 4, 5])
        assert (int(got.lengths), got.ids["item"].tolist()) == (1, [3, 0, 0, 0, 0, 0])

    def test_an_age_past_32_bits(self):
        assert clicks([-(2**35)], item=[1]).ages[0] == 2**31 - 1

    def test_missing_attributes(self):
        got = clicks([NOW - 5], amount=[None])
        assert got.ids["item"][0] == got.ids["tag"][0] == 0
        assert got.dense[0].tolist() == [0.0, 0.0]


class TestBatchSize:
    def test_fills_up_with_weight_zero(self):
        batch = batch_requests([Request(NOW)] * 2, SCHEMA, max_lens=LENGTHS, batch_size=5)
        assert batch.weights.tolist() == [1, 1, 0, 0, 0]
        assert batch.dense.shape == (5, 2)

    @pytest.mark.parametrize(("count", "size"), [(0, None), (0, 4), (5, 4)])
    def test_refuses_a_wrong_number(self, count, size):
        with pytest.raises(RequestError, match=f"requests: expected 1 .. .*, got {count}"):
            batch_requests([Request(NOW)] * count, SCHEMA, max_lens=LENGTHS, batch_size=size)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dense": {"prise": 1.0}}, r"dense: expected names of \['price', 'hour'\], got 'prise'"),
        ({"sparse": {"itm": 1}}, r"sparse: expected names of .* got 'itm'"),
        ({"events": {"buy": Events()}}, r"events: expected names of .* got 'buy'"),
        ({"dense": {"hour": "noon"}}, r"dense 'hour': expected a number, got 'noon'"),
        ({"dense": {"hour": True}}, r"dense 'hour': expected a number, got True"),
        ({"sparse": {"item": "17"}}, r"sparse 'item': expected integers, got \['17'\]"),
        ({"sparse": {"item": 1.0}}, r"sparse 'item': expected integers, got \[1\.0\]"),
        ({"sparse": {"item": [[1]]}}, r"sparse 'item': expected a list of integers"),
        ({"time": NOW * 1000}, r"time: expected Unix seconds, got 1500172800000"),
        ({"time": None}, r"time: expected integers"),
        (
            {"events": {"click": Events(times=[NOW * 1000])}},
            r"stream 'click': times: expected Unix seconds, got",
        ),
        (
            {"events": {"click": Events(times=[1, 2], ids={"item": [1]})}},
            r"stream 'click': 'item': expected 2 values, one a time, got 1",
        ),
        (
            {"events": {"click": Events(times=[1], ids={"itm": [1]})}},
            r"stream 'click': ids: expected names of \['item', 'tag'\], got 'itm'",
        ),
        (
            {"events": {"click": Events(times=[1, 2], dense={"amount": [1.0, "x"]})}},
            r"stream 'click': 'amount'\[1\]: expected a number, got 'x'",
        ),
    ],
)
def test_refuses_what_can_only_be_a_mistake(fields, message):
    requests = [Request(NOW), Request(**{"time": NOW, **fields})]
    with pytest.raises(RequestError, match=f"request 1: {message}"):
        batch_requests(requests, SCHEMA, max_lens=LENGTHS)
