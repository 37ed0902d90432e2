"""The three ways to divide MovieLens-1M into training, validation and test."""

import numpy as np

from kunlun_jax.data.sources.movielens_1m_files import Ratings

LIKED = 4
MIN_LIKES = 5
TRAIN = 0
DROPPED = -1
SHANGHAI = 8 * 3600
DAY = 86400


def split_ratings(ratings: Ratings, rule: str) -> tuple[Ratings, np.ndarray]:
    """Divide ratings into training (0), validation (1) and test (2).

    Args:
        ratings: All ratings.
        rule: A key of SPLIT_RULES.

    Returns:
        The ratings that the rule keeps, by time, and the part of each.
    """
    ratings = ratings.take(np.argsort(ratings.time, kind="stable"))
    if rule == "rechorus":
        ratings = ratings.take(_five_core(ratings))
    if not len(ratings):
        return ratings, np.zeros(0, np.int8)
    part = SPLIT_RULES[rule](ratings)
    return ratings.take(part != DROPPED), part[part != DROPPED]


def _by_user(ratings: Ratings) -> np.ndarray:
    order = np.argsort(ratings.user, kind="stable")
    counts = np.bincount(ratings.user)
    rank = np.arange(len(ratings)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.empty(len(ratings), np.int8)
    part[order] = _eighty_ten_ten(rank, np.repeat(counts, counts))
    return part


def _by_rank(ratings: Ratings) -> np.ndarray:
    return _eighty_ten_ten(np.arange(len(ratings)), np.asarray(len(ratings)))


def _eighty_ten_ten(rank: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Part of a rank among `count`; the cuts are rounded to the nearest rank."""
    return _count_passed(rank >= (8 * count + 5) // 10, rank >= (9 * count + 5) // 10)


def _by_day(ratings: Ratings) -> np.ndarray:
    day = (ratings.time + SHANGHAI) // DAY
    day -= day.min()
    part = _count_passed(day > 0.8 * day.max(), day > 0.9 * day.max())
    seen = np.ones(len(ratings), bool)
    for column in (ratings.user, ratings.movie):
        seen &= np.bincount(column[part == TRAIN], minlength=column.max() + 1)[column] > 0
    return np.where(seen, part, DROPPED)


def _count_passed(first_cut: np.ndarray, second_cut: np.ndarray) -> np.ndarray:
    return first_cut.astype(np.int8) + second_cut.astype(np.int8)


def _five_core(ratings: Ratings) -> np.ndarray:
    """Keep users and movies with at least MIN_LIKES likes, until nothing changes."""
    liked = ratings.rating >= LIKED
    keep = np.ones(len(ratings), bool)
    while True:
        core = keep.copy()
        for column in (ratings.user, ratings.movie):
            likes = np.bincount(column[keep & liked], minlength=column.max() + 1)
            core &= likes[column] >= MIN_LIKES
        if (core == keep).all():
            return keep
        keep = core


SPLIT_RULES = {"user_time": _by_user, "global_time": _by_rank, "rechorus": _by_day}
