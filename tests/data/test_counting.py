import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kunlun_jax.data.counting import count_columns, popularity_columns
from kunlun_jax.data.cross import Cross, Popularity, declaration_fault
from kunlun_jax.data.sources.encoding import event_log
from kunlun_jax.data.tables import Examples
from tests.data.cross_oracle import DAY, cross_feature

CROSS = Cross("view", ids=("item", "tag"), windows=(1, 3))
USERS, NOW = 3, 1_700_000_000
# Few moments, so that events fall into the request's second and on both ends of a window.
MOMENTS = st.builds(
    lambda days, seconds: NOW + days * DAY + seconds, st.integers(-4, 1), st.integers(-1, 1)
)
ROWS = st.lists(
    st.tuples(
        st.integers(0, USERS - 1),
        MOMENTS,
        st.fixed_dictionaries({"item": st.integers(0, 3), "tag": st.integers(0, 2)}),
    ),
    max_size=12,
)
MEMORIES = settings(deadline=None)


def log_of(events):
    """The events as a log."""
    users, times = (np.array([event[i] for event in events], np.int64) for i in (0, 1))
    log = event_log(USERS, users, times, {"row": np.arange(len(events))}, [])
    ids = {n: np.array([values[n] for *_, values in events], np.int64) for n in ("item", "tag")}
    return dataclasses.replace(log, ids={n: column[log.ids["row"]] for n, column in ids.items()})


def examples_of(requests):
    """The requests as examples, of what counts are made of."""
    return Examples(
        users=np.array([user for user, _, _ in requests], np.int32),
        request_times=np.array([time for _, time, _ in requests], np.int64),
        labels=np.zeros((len(requests), 1), np.float32),
        weights=np.ones(len(requests), np.float32),
        dense=np.zeros((len(requests), 0), np.float32),
        sparse={
            name: np.array([values[name] for *_, values in requests], np.int64)[:, None]
            for name in ("item", "tag")
        },
        sparse_lengths={},
        ends={},
    )


def known(rows):
    """The rows with None in the place of 0, the id of what is out of vocabulary."""
    return [(u, t, {name: v or None for name, v in values.items()}) for u, t, values in rows]


@MEMORIES
@given(ROWS, ROWS)
def test_counts_and_ages_are_those_of_the_definition(events, requests):
    found = count_columns(CROSS, log_of(events), examples_of(requests))
    assert found.dtype == np.float32
    expected = [
        [cross_feature(column, known(events), request) for column in CROSS.columns]
        for request in known(requests)
    ]
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(found.shape))


@MEMORIES
@given(ROWS, ROWS, st.integers(1, 3))
def test_popularity_is_that_of_the_definition(events, requests, days):
    popularity = Popularity("view", ("item", "tag"), (days, days + 1))

    def column(rows, name):
        return np.array([values[name] - 1 for *_, values in rows], int)

    def times(rows):
        return np.array([time for _, time, _ in rows], np.int64)

    keys = {name: (column(events, name), column(requests, name)) for name in ("item", "tag")}
    found = popularity_columns(popularity, times(events), keys, times(requests))
    expected = [
        [cross_feature(column, known(events), request) for column in popularity.columns]
        for request in known(requests)
    ]
    assert found.dtype == np.float32
    assert found.tolist() == expected


def test_the_future_changes_nothing():
    past = [(0, NOW - 5, {"item": 1, "tag": 1})]
    future = [(0, NOW + later, {"item": 1, "tag": 1}) for later in (0, 1, DAY)]
    request = examples_of([(0, NOW, {"item": 1, "tag": 1})])
    found = [count_columns(CROSS, log_of(events), request) for events in (past, past + future)]
    np.testing.assert_array_equal(*found)


def test_pairs_of_hashed_ids_are_numbered_anew():
    large = {"item": 2**62 + 1, "tag": 2**31}
    events = [(0, NOW - 5, large), (0, NOW - 9, {"item": 2**62 + 2, "tag": 2**31})]
    found = count_columns(CROSS, log_of(events), examples_of([(0, NOW, large)]))
    names = [column.name for column in CROSS.columns]
    assert found[0, names.index("count/view/item")] == 1
    assert found[0, names.index("count/view/tag")] == 2


def test_users_times_values_times_seconds_may_pass_64_bits():
    users, values = 400_000, 100_000
    first = (users - 1, NOW - DAY, {"item": 3, "tag": 1})
    others = [(user, NOW - 50 * 365 * DAY, {"item": 9 + user, "tag": 1}) for user in range(values)]
    assert users * values * (50 * 365 * DAY) > 2**63
    log = dataclasses.replace(
        log_of([]),
        offsets=np.array([*range(values + 1), *[values] * (users - values - 1), values + 1]),
        times=np.array([time for _, time, _ in (*others, first)]),
        ids={n: np.array([e[2][n] for e in (*others, first)], np.int64) for n in ("item", "tag")},
    )
    requests = [(users - 1, NOW, {"item": 3, "tag": 1}), (7, NOW, {"item": 16, "tag": 2})]
    found = count_columns(CROSS, log, examples_of(requests))
    names = [column.name for column in CROSS.columns]
    assert found[0, names.index("count/view/item")] == 1
    assert found[0, names.index("age/view/item")] == 1
    assert found[1, names.index("count/view/item")] == 1
    assert found[1, names.index("count/view/tag")] == 0


def test_names_of_columns():
    assert [column.name for column in Cross("view", ("item",), (7,)).columns] == [
        "count/view", "count/view/7d", "age/view",
        "count/view/item", "count/view/item/7d", "age/view/item",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"stream": "buy"}, r"stream: expected one of \['view'\], got 'buy'"),
        ({"ids": ("user",)}, r"ids: .* share with the context, \['item', 'tag'\], got 'user'"),
        ({"windows": (7, 7)}, r"windows: expected days, ascending from 1, got \(7, 7\)"),
        ({"windows": (0,)}, r"windows: .*, got \(0,\)"),
        ({"windows": (), "whole": False, "ages": False}, r"expected something to count"),
    ],
)
def test_faults_of_a_declaration(changes, fault):
    one = Cross(**{"stream": "view", "ids": ("item",), **changes})
    found = declaration_fault(one, {"view": ["item", "tag"]})
    assert re.match(fault, found) if fault else not found
