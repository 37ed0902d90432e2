import itertools
from collections import Counter

import numpy as np
import pytest

from kunlun_jax.data.sources.sampling import sample_outside_baskets


def sample(group, weight, requests, taken=(), num_samples=2, seed=0):
    """Draw for requests (group, basket) with taken (basket, row)."""
    requests = np.array(requests, dtype=np.int64).reshape(-1, 2)
    taken = np.array(taken, dtype=np.int64).reshape(-1, 2)
    return sample_outside_baskets(
        np.array(group),
        np.array(weight, dtype=np.int64),
        request_group=requests[:, 0],
        request_basket=requests[:, 1],
        taken_basket=taken[:, 0],
        taken_row=taken[:, 1],
        num_samples=num_samples,
        rng=np.random.default_rng(seed),
    )


def by_request(request, row, count):
    return [tuple(row[request == i].tolist()) for i in range(count)]


def test_distribution_is_sequential_sampling_without_replacement():
    weight = [100, 1, 2, 3, 10, 100]
    group = [0, 1, 1, 1, 1, 2]
    count = 40_000
    request, row = sample(group, weight, [(1, 0)] * count, taken=[(0, 2)])
    observed = Counter(by_request(request, row, count))
    eligible = {1: 1, 3: 3, 4: 10}
    for first, second in itertools.permutations(eligible, 2):
        total = sum(eligible.values())
        p = eligible[first] / total * eligible[second] / (total - eligible[first])
        error = np.sqrt(p * (1 - p) / count)
        assert observed[first, second] / count == pytest.approx(p, abs=5 * error)
    assert sum(observed.values()) == count
    assert len(observed) == 6


@pytest.mark.parametrize("num_samples", [1, 2, 3, 5])
def test_few_eligible_rows_are_all_taken(num_samples):
    group = [0, 0, 0, 3, 3, 3, 3]
    requests = [(0, 0), (3, 1), (0, 2), (7, 3)]
    taken = [(0, 1), (1, 3), (1, 4), (1, 5), (1, 6)]
    request, row = sample(group, [1] * 7, requests, taken, num_samples)
    drawn = by_request(request, row, 4)
    assert len(drawn[0]) == min(2, num_samples)
    assert set(drawn[0]) <= {0, 2}
    assert drawn[1] == ()
    assert len(drawn[2]) == len(set(drawn[2])) == min(3, num_samples)
    assert drawn[3] == ()


def test_requests_of_one_basket_draw_independently():
    request, row = sample([0] * 50, [1] * 50, [(0, 4)] * 3, taken=[(4, 0), (4, 1)], num_samples=5)
    drawn = by_request(request, row, 3)
    assert all(len(set(d)) == 5 and not set(d) & {0, 1} for d in drawn)
    assert len(set(drawn)) == 3
    assert (np.diff(request) >= 0).all()


def test_very_uneven_weights_terminate():
    request, row = sample([0] * 4, [10**6, 10**6, 10**6, 1], [(0, 0)] * 20, num_samples=3)
    assert all(len(set(d)) == 3 for d in by_request(request, row, 20))


def test_seeded():
    arguments = ([0] * 30, range(1, 31), [(0, i) for i in range(20)])
    first, again, other = (sample(*arguments, seed=s)[1] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_requests():
    request, row = sample([0, 1], [1, 1], [])
    assert len(request) == len(row) == 0
