"""Tables and numbers of the pages, in Markdown."""

from collections.abc import Sequence
from typing import Any

from kunlun_jax.scaling.bootstrap import Interval


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table.

    Args:
        header: Names of the columns.
        rows: Cells, shown by `str`.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def megaflops(value: float) -> str:
    """Return operations as millions."""
    return f"{value / 1e6:,.2f} M"


def show(value: Interval, digits: int = 4) -> str:
    """Return an estimate and its interval.

    Args:
        value: The interval.
        digits: Decimals.
    """
    estimate, low, high = (
        "unbounded" if end is None else f"{end:.{digits}f}"
        for end in (value.estimate, value.low, value.high)
    )
    return f"{estimate} [{low}, {high}]"
