"""How many rows each file has, how many of them a data set keeps, and why not the others."""

import dataclasses
import json
import pathlib
from typing import Any

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.messages import named
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.files import publish


@dataclasses.dataclass(frozen=True)
class RowCount:
    """Rows of a file.

    Attributes:
        read: All rows.
        where: Those that the condition of the schema leaves out.
    """

    read: int
    where: int


def store_count(count: RowCount, place: pathlib.Path, table: int, file: int) -> None:
    """Keep the count of a file during a build."""
    publish(_count_path(place, table, file), json.dumps(dataclasses.astuple(count)))


def stored_counts(place: pathlib.Path, table: int, num_files: int) -> list[RowCount] | None:
    """Return the counts of the files of a table; None if one has not been read."""
    paths = [_count_path(place, table, file) for file in range(num_files)]
    if not all(path.exists() for path in paths):
        return None
    return [RowCount(*json.loads(path.read_text())) for path in paths]


def store_spellings(respelled: int, pair: tuple[str, ...], place: pathlib.Path) -> None:
    """Keep how many users equal another one but for their spelling, and two of them."""
    publish(spellings_path(place), json.dumps({"respelled": respelled, "pair": pair}))


def spellings_path(place: pathlib.Path) -> pathlib.Path:
    """Return where that is kept during a build."""
    return place / SCRATCH / "user_spellings.json"


def refuse_no_rows(counts: list[RowCount], shown: str) -> None:
    """Refuse a table of which no row is taken.

    Raises:
        SchemaError: If there is none; names the table.
    """
    read = sum(count.read for count in counts)
    if read > sum(count.where for count in counts):
        return
    why = f", of {read} that the condition of the schema leaves out" if read else ""
    with named(shown):
        raise SchemaError(f"expected rows, got none{why}")


def describe_rows(inputs: Inputs, place: pathlib.Path, kept: dict[str, int]) -> dict[str, Any]:
    """Return what the manifest says of the rows: those of every file, what became of them, users.

    Args:
        inputs: The files.
        place: Directory of the build.
        kept: Rows in the data set by table; the impressions come first, then the streams.
    """
    files, tables = {}, {}
    for number, (table, count) in enumerate(kept.items()):
        names = inputs.names(table)
        counts = stored_counts(place, number, len(names))
        assert counts is not None, "every file has been read"
        files |= {name: found.read for name, found in zip(names, counts, strict=True)}
        read, where = sum(c.read for c in counts), sum(c.where for c in counts)
        tables[table] = {"read": read, "kept": count, "left_out": {"where": where}}
        if table != IMPRESSIONS:
            tables[table]["left_out"]["user_without_impressions"] = read - where - count
    path = spellings_path(place)  # of a pipeline, there only if there are any
    users = json.loads(path.read_text()) if path.exists() else {"respelled": 0, "pair": []}
    return {"files": files, "tables": tables, "users": users}


def _count_path(place: pathlib.Path, table: int, file: int) -> pathlib.Path:
    return place / SCRATCH / f"rows-{table:03d}-{file:06d}.json"
