"""Periods of time one after the other, and examples shuffled within each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kunlun_jax.data.reading.order import PeriodShuffle
from tests.data.reading.test_pipeline import make, numbered

__all__ = ["numbered"]


@given(st.lists(st.integers(-3, 9), min_size=1, max_size=200), st.integers(0, 9))
def test_an_order_has_every_example_once_and_no_period_before_another(periods, seed):
    periods = np.array(periods, np.int64)
    order = PeriodShuffle(seed, periods)
    found = order(np.arange(len(periods)))
    assert sorted(found) == list(range(len(periods)))
    assert periods[found].tolist() == sorted(periods)
    np.testing.assert_array_equal(order(np.arange(len(periods)) + len(periods)), found)
    assert order.numbers.tolist() == sorted(set(periods.tolist()))
    for index, start in enumerate(order.starts):
        members = order.members(index)
        np.testing.assert_array_equal(members, found[start : start + len(members)])
        assert set(periods[members]) == {order.numbers[index]}


def test_the_seed_decides_the_order_within_a_period():
    periods = np.repeat(np.arange(3), 50)
    first, second = (PeriodShuffle(seed, periods)(np.arange(150)) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert first.tolist() != sorted(first.tolist())


@pytest.mark.parametrize("max_examples", [None, 100])
@pytest.mark.parametrize("period", [1, 36_000, 10**9])
def test_periods_follow_each_other(numbered, period, max_examples):
    options = {"max_examples": max_examples, "batch_size": 1}
    source, whole = make(numbered, period=period, **options), make(numbered, **options)
    times = numbered.splits["train"].request_times
    count = source.num_examples
    rows = [int(source[i].weights[0]) - 1 for i in range(count)]
    assert sorted(rows) == sorted(int(whole[i].weights[0]) - 1 for i in range(count))
    numbers = [int(times[row]) // period for row in rows]
    assert numbers == sorted(numbers)
    assert period == 1 or rows != sorted(rows, key=lambda row: times[row])
    seen = {}
    for number, batch, within in source.periods():
        seen[number] = batch, len(within)
        only = make(numbered, shuffle=False, batch_size=1, within=within)
        found = {int(only[i].weights[0]) - 1 for i in range(len(only))}
        assert found == {row for row, n in zip(rows, numbers, strict=True) if n == number}
        assert only.weight == sum(row + 1 for row in found)
    firsts = {n: (numbers.index(n), numbers.count(n)) for n in set(numbers)}
    assert seen == firsts
