import dataclasses

import numpy as np
import pytest

from kunlun_jax.data import SchemaError
from kunlun_jax.data.quality.consistency import validate_tables
from tests.data import toy


def test_toy_is_valid():
    validate_tables(toy.toy_tables())


def first_event(tables, name="click"):
    """The first event of the first user who has two."""
    log = tables.logs[name]
    return int(log.offsets[np.flatnonzero(np.diff(log.offsets) >= 2)[0]])


def milliseconds(tables):
    tables.logs["click"].times[:] *= 1000


def unsorted(tables):
    i = first_event(tables)
    times = tables.logs["click"].times
    times[i] = times[i + 1] + 1


def request_in_milliseconds(tables):
    tables.splits["test"].request_times[3] *= 1000


def future(tables):
    train = tables.splits["train"]
    users, ends = train.users, train.ends["click"]
    sizes = np.diff(tables.logs["click"].offsets)
    row = np.flatnonzero(ends < sizes[users])[0]
    ends[row] += 1
    log = tables.logs["click"]
    late = log.offsets[users[row]] + ends[row] - 1
    assert log.times[late] >= train.request_times[row]


def end_of_another_user(tables):
    tables.splits["train"].ends["visit"][2] = 10_000


def negative_end(tables):
    tables.splits["train"].ends["visit"][2] = -1


def user_out_of_range(tables):
    tables.splits["train"].users[4] = 9


def label(tables):
    tables.splits["train"].labels[4, 1] = 2.0


def weight(tables):
    tables.splits["train"].weights[4] = np.nan


def infinite(tables):
    tables.splits["train"].dense[4, 0] = np.inf


def infinite_attribute(tables):
    tables.logs["click"].dense[4, 0] = -np.inf


def event_id(tables):
    tables.logs["click"].ids["item"][4] = toy.NUM_ITEMS + 1


def negative_id(tables):
    tables.splits["train"].sparse["item"][4] = -1


def sparse_length(tables):
    tables.splits["train"].sparse_lengths["tags"][4] = 4


def padding(tables):
    train = tables.splits["train"]
    row = np.flatnonzero(train.sparse_lengths["tags"] == 1)[0]
    train.sparse["tags"][row, 2] = 1


def missing_stream(tables):
    del tables.logs["visit"]


def missing_split(tables):
    del tables.splits["test"]


def missing_event_id(tables):
    del tables.logs["click"].ids["tag"]


def offsets(tables):
    tables.logs["click"].offsets[-1] += 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            milliseconds,
            r"stream 'click': times: \d+ rows with a time .* first: 0, 1",
        ),
        (
            unsorted,
            r"stream 'click': times: 1 rows with an event older than .* first: ",
        ),
        (request_in_milliseconds, r"split 'test': request_times: 1 rows with a time .* first: 3"),
        (future, r"split 'train': stream 'click': 1 rows with an event at or after the request"),
        (end_of_another_user, r"stream 'visit': 1 rows with an end outside the user's log, .*: 2"),
        (negative_end, r"stream 'visit': 1 rows with an end outside the user's log, first: 2"),
        (user_out_of_range, r"split 'train': 1 rows with a user out of range, first: 4"),
        (label, r"split 'train': buy: 1 rows with a label that is not 0 or 1, first: 4"),
        (weight, r"split 'train': 1 rows with a bad weight, first: 4"),
        (infinite, r"split 'train': price: 1 rows with an infinite value, first: 4"),
        (infinite_attribute, r"stream 'click': amount: 1 rows with an infinite value, first: 4"),
        (event_id, r"stream 'click': item: 1 rows with an id outside 0 \.\. 13, first: 4"),
        (negative_id, r"split 'train': item: 1 rows with an id outside 0 \.\. 13, first: 4"),
        (sparse_length, r"split 'train': tags: 1 rows with a bad length, first: 4"),
        (padding, r"split 'train': tags: 1 rows with padding that is not 0"),
        (missing_stream, r"streams: expected \['click', 'visit'\], got \['click'\]"),
        (missing_split, r"splits: expected .*, got \['train', 'validation'\]"),
        (missing_event_id, r"stream 'click': ids: expected \['item', 'tag'\], got \['item'\]"),
        (offsets, r"stream 'click': offsets do not partition the \d+ events"),
    ],
)
def test_refused(damage, message):
    tables = toy.toy_tables()
    damage(tables)
    with pytest.raises(SchemaError, match=message):
        validate_tables(tables)


def test_wrong_shapes_are_refused():
    tables = toy.toy_tables()
    train = tables.splits["train"]
    tables.splits["train"] = dataclasses.replace(train, labels=train.labels[:, :1])
    with pytest.raises(SchemaError, match=r"split 'train': labels: expected shape \(203, 2\), got"):
        validate_tables(tables)


def test_only_a_few_rows_are_listed():
    tables = toy.toy_tables()
    tables.splits["train"].users[:] = -1
    with pytest.raises(SchemaError, match=r"203 rows .* first: 0, 1, 2, 3, 4$"):
        validate_tables(tables)
