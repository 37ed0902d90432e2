"""Cross features of requests: given by the caller, or computed from the events of the request.

What is not given is computed from the events as a build would (`counting.py`), and is right if the
request carries the whole history. Popularity knows of other users: what is not given of it is
unknown, as with any dense feature. What is given has to agree with the events, which may be fewer
than were counted, and with what else is given.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from kunlun_jax.data.cross import Cross, CrossColumn
from kunlun_jax.data.reading.request_histories import Histories
from kunlun_jax.data.reading.request_values import RequestError
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.tables import Examples

_TOLERANCE = 1e-3  # days; ages are rounded to 32 bits


class _Fault(NamedTuple):
    """What is wrong with a column: bool [n], and what was expected instead by request."""

    wrong: np.ndarray
    expected: str
    bound: np.ndarray


def complete_counts(
    dense: np.ndarray, examples: Examples, schema: Schema, histories: Histories
) -> np.ndarray:
    """Return dense features with the cross features that were not given.

    Args:
        dense: float32 [n, features], raw; what is not finite was not given.
        examples: Users, times and candidates of the requests.
        schema: The schema.
        histories: The events of the users.

    Returns:
        float32 [n, features].

    Raises:
        RequestError: If what is given contradicts the events, or itself.
    """
    first = len(schema.dense) - len(schema.derived)  # the derived ones are the last
    found = [histories.counts(cross, examples) for cross in schema.cross]
    if not np.isfinite(dense[:, first:]).any():  # nothing to compare
        unknown = dense[:, first + sum(x.shape[1] for x in found) :]
        return np.concatenate([dense[:, :first], *found, unknown], axis=1)
    counted: dict[CrossColumn, np.ndarray] = {}
    for cross, values in zip(schema.cross, found, strict=True):
        counted |= dict(zip(cross.columns, values.T, strict=True))
    given = dict(zip(schema.derived, dense[:, first:].T, strict=True))
    complete = {c: np.where(np.isfinite(x), x, counted.get(c, np.nan)) for c, x in given.items()}
    for one in schema.popularity:  # at least the user's own events
        own = Cross(one.stream, one.ids, one.windows, whole=False, ages=False)
        values = histories.counts(own, examples)[:, len(one.windows) :]
        counted |= dict(zip(one.columns, values.T, strict=True))
    for column, values in complete.items():
        for fault in _faults(column, values, counted[column], complete):
            _refuse(column, fault, values)
    return np.concatenate([dense[:, :first], np.stack(list(complete.values()), axis=1)], axis=1)


def _faults(
    column: CrossColumn,
    values: np.ndarray,
    events: np.ndarray,
    complete: Mapping[CrossColumn, np.ndarray],
) -> Iterator[_Fault]:
    """Yield what may be wrong with a column, the plainest first; no comparison with NaN is true."""
    known = np.isfinite(values)
    if column.kind == "age":
        yield _Fault(values < 0, "days >= 0", events)
        yield _Fault(
            values > events + _TOLERANCE, "at most {}, the age of its latest event", events
        )
        count = complete.get(dataclasses.replace(column, kind="count"))
        if count is not None:
            yield _Fault(known & (count == 0), "none, as the count is {}", count)
            yield _Fault(~known & (count > 0), "a number, as the count is {}", count)
        return
    yield _Fault(known & ((values < 0) | (values % 1 != 0)), "a whole number >= 0", events)
    yield _Fault(values < events, "at least {}, what its events say", events)
    for larger in complete:
        if larger.kind == column.kind and larger.stream == column.stream:
            wider = larger.id == column.id and (larger.days or np.inf) > (column.days or np.inf)
            whole = not larger.id and column.id and larger.days == column.days
            if wider or whole:
                limit = complete[larger]
                yield _Fault(values > limit, f"at most {{}}, that of {larger.name!r}", limit)


def _refuse(column: CrossColumn, fault: _Fault, values: np.ndarray) -> None:
    rows = np.flatnonzero(fault.wrong)
    if len(rows):
        row = rows[0]
        got = f"{values[row]:g}" if np.isfinite(values[row]) else "none"
        expected = fault.expected.format(f"{fault.bound[row]:g}")
        raise RequestError(f"request {row}: dense {column.name!r}: expected {expected}, got {got}")
