import numpy as np

from kunlun_jax.data.sources.encoding import encode, event_log, events_before, index_of


def test_ids_are_ascending_and_unseen_values_are_oov():
    values = np.array(["b", "a", "c", "b", "d", ""])
    seen = np.array([True, False, True, False, False, True])
    ids, size = encode(values, seen)
    assert ids.tolist() == [2, 0, 3, 2, 0, 1]
    assert ids.dtype == np.int32
    assert size == 3


def test_nothing_seen():
    ids, size = encode(np.array([3, 4]), np.zeros(2, dtype=bool))
    assert (ids.tolist(), size) == ([0, 0], 0)


def test_index_of():
    assert index_of(np.array([2, 5, 9]), np.array([9, 1, 5, 10])).tolist() == [2, -1, 1, -1]
    assert index_of(np.array([]), np.array([1])).tolist() == [-1]


def test_event_log_keeps_the_order_of_a_moment():
    user, time = np.array([2, 0, 2, 2, 0]), np.array([7, 5, 3, 7, 5])
    log = event_log(4, user, time, {"item": np.arange(5)}, [np.arange(5) * 2.0])
    assert log.offsets.tolist() == [0, 2, 2, 5, 5]
    assert log.ids["item"].tolist() == [1, 4, 2, 0, 3]
    assert log.times.tolist() == [5, 5, 3, 7, 7]
    assert log.dense[:, 0].tolist() == [2, 8, 4, 0, 6]


def test_events_before_is_strict():
    log = event_log(3, np.array([0, 0, 0, 2]), np.array([3, 5, 5, 1]), {}, [])
    users, times = np.array([0, 0, 0, 0, 1, 2, 2]), np.array([3, 4, 5, 6, 9, 1, 2])
    assert events_before(log, users, times).tolist() == [0, 1, 1, 3, 0, 0, 1]
