"""Requests by column, where what they share stands once: one user's candidates share nearly all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Repeated(NamedTuple):
    """A column of which request i has values[rows[i]].

    Attributes:
        values: What there is, in the order of the requests that have it first.
        rows: int32 [n].
    """

    values: Sequence[Any]
    rows: np.ndarray

    @classmethod
    def by_identity(cls, values: Iterable[Any]) -> "Repeated":
        """Keep the very same object once; what is equal but another one need not be."""
        known: dict[int, int] = {}
        objects: list[Any] = []
        rows = []
        for value in values:
            row = known.setdefault(id(value), len(known))
            if row == len(objects):
                objects.append(value)
            rows.append(row)
        return cls(objects, np.array(rows, np.int32))

    def first(self, number: int) -> int:
        """Return the first request that has a value, for messages."""
        return int(np.flatnonzero(self.rows == number)[0])


class RequestTable(NamedTuple):
    """Requests whose names are checked; a name that none has is missing.

    Attributes:
        times: What stands for their times.
        events: Histories by stream; what is one value here is one user.
        dense: By context feature, what stands for a number.
        sparse: By context feature, what stands for ids.
    """

    times: Repeated
    events: Repeated
    dense: Mapping[str, Repeated]
    sparse: Mapping[str, Repeated]

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.times.rows)
