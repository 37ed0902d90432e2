"""Weighted sampling without replacement from many groups at once."""

import numpy as np

from kunlun_jax.data.sources.encoding import index_of


def sample_outside_baskets(
    group: np.ndarray,
    weight: np.ndarray,
    *,
    request_group: np.ndarray,
    request_basket: np.ndarray,
    taken_basket: np.ndarray,
    taken_row: np.ndarray,
    num_samples: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of each request's group that are not in its basket, without replacement.

    Drawing one row after another in proportion to weight, and drawing again on a repetition,
    is sequential weighted sampling without replacement. A request with no more eligible
    rows than samples takes them all.

    Args:
        group: int [rows], ascending: the group of each row.
        weight: int64 [rows], >= 1. Integers, so that their cumulative sums are exact.
        request_group: int [requests], the group of each request.
        request_basket: int [requests], the basket of each request, >= 0.
        taken_basket: int [taken]; with `taken_row`, the pairs that must not be drawn.
        taken_row: int [taken]; a row of the group that the basket's requests draw from.
        num_samples: Rows per request.
        rng: Source of randomness.

    Returns:
        (request, row): for each draw the index of its request, ascending, and the row.
    """
    if not len(request_group):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    num_rows = len(group)
    base = request_basket.astype(np.int64) * num_rows
    taken = np.unique(taken_basket.astype(np.int64) * num_rows + taken_row)
    start = np.searchsorted(group, request_group, side="left")
    stop = np.searchsorted(group, request_group, side="right")
    num_taken = np.bincount(taken // num_rows, minlength=int(request_basket.max()) + 1)
    eligible = stop - start - num_taken[request_basket]
    chosen = np.full((len(request_group), num_samples), -1, dtype=np.int64)
    few = np.flatnonzero(eligible <= num_samples)
    owner, row = _all_rows(few, start, stop)
    free = index_of(taken, base[owner] + row) < 0
    owner, row = owner[free], row[free]
    chosen[owner, np.arange(len(owner)) - np.searchsorted(owner, owner)] = row
    many = np.flatnonzero(eligible > num_samples)
    cumulative = np.concatenate([[0], np.cumsum(weight)])
    for slot in range(num_samples):
        pending = many
        while pending.size:
            point = rng.integers(cumulative[start[pending]], cumulative[stop[pending]])
            row = np.searchsorted(cumulative, point, side="right") - 1
            repeated = (chosen[pending, :slot] == row[:, None]).any(axis=1)
            bad = repeated | (index_of(taken, base[pending] + row) >= 0)
            chosen[pending[~bad], slot] = row[~bad]
            pending = pending[bad]
    request, column = np.nonzero(chosen >= 0)
    return request, chosen[request, column]


def _all_rows(
    requests: np.ndarray, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every (request, row of its group), by request."""
    sizes = (stop - start)[requests]
    owner = np.repeat(requests, sizes)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return owner, start[owner] + inside
