import numpy as np
import pytest

from kunlun_jax.data.windows import History, Moments


@pytest.mark.parametrize("seed", range(5))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    n, queries = 60, 200
    key, time, value = rng.integers(0, 4, n), rng.integers(100, 130, n), rng.normal(size=n)
    # A stable order of observations of the same moment.
    history = History.build(key, time, value)
    asked = rng.integers(0, 6, queries)
    start = rng.integers(-1000, 200, queries)
    start[::2] = rng.integers(95, 135, len(start[::2]))
    stop = start + rng.integers(0, 40, queries)
    counts = Moments.build(key, time).count(asked, start, stop)
    means = history.mean_or_last(asked, start, stop)
    for i in range(queries):
        inside = (key == asked[i]) & (time >= start[i]) & (time < stop[i])
        assert counts[i] == inside.sum()
        before = np.flatnonzero((key == asked[i]) & (time < start[i]))
        if inside.any():
            assert means[i] == pytest.approx(value[inside].mean())
        elif len(before):
            last = before[np.lexsort((before, time[before]))][-1]
            assert means[i] == pytest.approx(value[last])
        else:
            assert np.isnan(means[i])


def test_nothing_observed():
    empty = np.empty(0, np.int64)
    history = History.build(empty, empty, empty)
    one = np.array([1])
    assert Moments.build(empty, empty).count(one, one, one + 5).tolist() == [0]
    assert np.isnan(history.mean_or_last(one, one, one + 5)).all()
