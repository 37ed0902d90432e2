"""Cross features: what is declared of how a candidate and the events before a request meet.

    Cross("view", ids=("item", "category"), windows=(7, 28))      of the user's own events
    Popularity("view", ids=("item",), windows=(7, 28))            of all users' events

A declaration stands for columns of numbers among the dense features of the context, by these names:

    count/view/item, count/view/item/7d    events with the candidate's item: all, of the last 7 days
    age/view/item                          days since the latest of them; missing: there is none
    count/view, count/view/7d, age/view    the same of all events of the stream
    popularity/view/item/7d                events with the candidate's item, of all users

Only what happened in a second before the request's counts; "the last n days" are the n * 86,400
seconds before it. The whole history counts, also what is beyond a stream's `max_len`. What is out
of vocabulary equals nothing.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

Kind = Literal["count", "age", "popularity"]


@dataclasses.dataclass(frozen=True)
class CrossColumn:
    """A column that a declaration stands for.

    Attributes:
        kind: What it says.
        stream: The stream whose events it is about.
        id: The id that events share with the candidate; "": all events of the stream.
        days: Of the last so many days; 0: of the whole history.
    """

    kind: Kind
    stream: str
    id: str = ""
    days: int = 0

    @property
    def name(self) -> str:
        """The name of the dense feature."""
        parts = [self.kind, self.stream, *([self.id] if self.id else [])]
        return "/".join([*parts, *([f"{self.days}d"] if self.days else [])])


@dataclasses.dataclass(frozen=True)
class Cross:
    """Count features: how many earlier events of the user meet the candidate, and how long ago.

    Counts and ages grow with calendar time where users only ever get older: windows do not.

    Attributes:
        stream: The stream.
        ids: Ids that its events share with the candidate; besides, all its events are counted.
        windows: Days, ascending.
        whole: Whether the whole history is counted, too.
        ages: Whether it is said how long ago the latest event was.
    """

    stream: str
    ids: tuple[str, ...] = ()
    windows: tuple[int, ...] = ()
    whole: bool = True
    ages: bool = True

    @property
    def columns(self) -> tuple[CrossColumn, ...]:
        """The columns, in their order."""
        found = []
        for name in ("", *self.ids):
            days = [*([0] if self.whole else []), *self.windows]
            found += [CrossColumn("count", self.stream, name, n) for n in days]
            found += [CrossColumn("age", self.stream, name)] if self.ages else []
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Popularity:
    """How many earlier events of a stream, of all users of the data set, meet the candidate.

    Attributes:
        stream: The stream.
        ids: Ids that its events share with the candidate.
        windows: Days, ascending.
    """

    stream: str
    ids: tuple[str, ...]
    windows: tuple[int, ...]

    @property
    def columns(self) -> tuple[CrossColumn, ...]:
        """The columns, in their order."""
        return tuple(
            CrossColumn("popularity", self.stream, name, days)
            for name in self.ids
            for days in self.windows
        )


def columns_of(declared: Iterable[Cross | Popularity]) -> tuple[CrossColumn, ...]:
    """Return the columns of declarations, in their order.

    Args:
        declared: The declarations.
    """
    return tuple(column for one in declared for column in one.columns)


def declaration_fault(one: Cross | Popularity, shared: Mapping[str, Sequence[str]]) -> str:
    """Return what is wrong with a declaration; empty if nothing is.

    Args:
        one: The declaration.
        shared: By stream, the ids that its events share with a candidate's single values.
    """
    if one.stream not in shared:
        return f"stream: expected one of {sorted(shared)}, got {one.stream!r}"
    for name in one.ids:
        if name not in shared[one.stream]:
            return (
                f"ids: expected ids that events of {one.stream!r} share with the context, "
                f"{list(shared[one.stream])}, got {name!r}"
            )
    if not all(a < b for a, b in zip((0, *one.windows), one.windows, strict=False)):
        return f"windows: expected days, ascending from 1, got {one.windows}"
    if not one.columns:
        return f"expected something to count, got {one}"
    return ""
