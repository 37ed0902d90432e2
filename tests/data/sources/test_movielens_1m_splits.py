"""How ratings are split, each rule against a loop."""

import numpy as np

from kunlun_jax.data.sources.movielens_1m_files import Ratings
from kunlun_jax.data.sources.movielens_1m_splits import DROPPED, split_ratings

DAY = 86400


def random_ratings(size=400, users=7, movies=9, seed=0):
    random = np.random.default_rng(seed)
    return Ratings(
        # Some are rare.
        user=(users * random.random(size) ** 2).astype(np.int32),
        movie=(movies * random.random(size) ** 2).astype(np.int32),
        rating=random.integers(1, 6, size).astype(np.float32),
        time=random.integers(0, 100 * DAY, size),
    )


def test_by_time_within_each_user():
    ratings, part = split_ratings(random_ratings(), "user_time")
    for user in range(7):
        mine = part[ratings.user == user]
        cuts = [round(0.8 * len(mine) + 1e-9), round(0.9 * len(mine) + 1e-9)]
        expected = np.searchsorted(cuts, np.arange(len(mine)), side="right")
        np.testing.assert_array_equal(mine, expected)


def test_by_time_over_all():
    ratings, part = split_ratings(random_ratings(), "global_time")
    assert (np.diff(ratings.time) >= 0).all()
    np.testing.assert_array_equal(part, np.repeat([0, 1, 2], [320, 40, 40]))


def test_rechorus_against_sets():
    original = random_ratings(size=250, users=12, movies=16)
    ratings, part = split_ratings(original, "rechorus")
    rows = [
        tuple(row)
        for row in zip(original.user, original.movie, original.rating, original.time, strict=True)
    ]
    while True:
        liked = [row for row in rows if row[2] >= 4]
        users = {u for u in range(12) if sum(row[0] == u for row in liked) >= 5}
        movies = {m for m in range(16) if sum(row[1] == m for row in liked) >= 5}
        kept = [row for row in rows if row[0] in users and row[1] in movies]
        if len(kept) == len(rows):
            break
        rows = kept
    assert 0 < len(rows) < 250
    day = {row: (row[3] + 8 * 3600) // DAY for row in rows}
    first, last = min(day.values()), max(day.values())
    numbers = {row: (day[row] - first) / (last - first) for row in rows}
    train = [row for row in rows if numbers[row] <= 0.8]
    known = {row[0] for row in train}, {row[1] for row in train}
    rest = [r for r in rows if numbers[r] > 0.8 and r[0] in known[0] and r[1] in known[1]]
    expected = {
        0: set(train),
        1: {row for row in rest if numbers[row] <= 0.9},
        2: {row for row in rest if numbers[row] > 0.9},
    }
    columns = (ratings.user, ratings.movie, ratings.rating, ratings.time)
    actual = {0: set(), 1: set(), 2: set()}
    for number, *row in zip(part, *columns, strict=True):
        actual[int(number)].add(tuple(row))
    assert actual == expected


def test_rechorus_drops_users_that_training_has_not_seen():
    early = [(0, movie, 5.0, movie) for movie in range(5)] * 5
    late = [(1, movie, 5.0, 100 * DAY) for movie in range(5)]
    user, movie, rating, time = map(np.asarray, zip(*early, *late, strict=True))
    ratings, part = split_ratings(Ratings(user, movie, rating, time), "rechorus")
    assert set(ratings.user) == {0}
    assert DROPPED not in part
