"""What is read of each input table: the same expressions and checks, whichever engine runs them.

A table is one or several files, which need not be alike: what the schema names has to be in each of
them, in any order, of any type that can be read. Files that are alike are read together.
"""

import dataclasses
import pathlib

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.own_data import columns
from kunlun_jax.data.own_data.columns import Check, Column
from kunlun_jax.data.own_data.conditions import check_condition, explain_condition
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.headers import verify_pages
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.messages import clipped, named, names_shown, path_shown, value_shown
from kunlun_jax.data.own_data.row_counts import RowCount, refuse_no_rows, store_count
from kunlun_jax.data.own_data.sources import Layout, layout_of
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Events, TableSchema
from kunlun_jax.data.own_data.text_files import explain, verify_text, write_plain
from kunlun_jax.data.own_data.texts import Absent
from kunlun_jax.data.schema import SchemaError

ROWS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Part:
    """Files of a table that are alike.

    Attributes:
        layout: Their columns.
        user: The column of the user, who has to be there.
        columns: The other columns by the names they go by from here (`columns.impression_columns`,
            `columns.event_columns`).
    """

    layout: Layout
    user: Column
    columns: dict[str, Column]

    @property
    def checks(self) -> list[Check]:
        """What no row may be."""
        return [check for c in (self.user, *self.columns.values()) for check in c.checks]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a table is read.

    Attributes:
        name: "impressions", or the name of the stream.
        number: 0 for the impressions, 1, 2, ... for the streams.
        where: SQL condition; "" takes all rows.
        files: Its files.
        part_of: For each file, the number of its part.
        parts: The parts.
        place: Directory of the build, where files with lines of several ends lie as they are read.
    """

    name: str
    number: int
    where: str
    files: tuple[pathlib.Path, ...]
    part_of: tuple[int, ...]
    parts: tuple[Part, ...]
    place: pathlib.Path

    @property
    def user_column(self) -> str:
        """The name of the column of the user."""
        return self.parts[0].user.checks[0].column

    @property
    def shown(self) -> str:
        """What to call the table in a message: its file, or its name where there are several."""
        return str(self.files[0]) if len(self.files) == 1 else self.name

    def typed(self, engine: Engine, numbers: list[int] | None = None, more: str = "") -> str:
        """Return the query of the typed rows: the user as `key`, and the columns.

        Args:
            engine: Reads the files.
            numbers: Of files, to read only some.
            more: Further SQL columns, of those of the files.
        """
        queries = []
        for number, part in enumerate(self.parts):
            chosen = [i for i in numbers or range(len(self.files)) if self.part_of[i] == number]
            if chosen:
                values = ", ".join(f"{c.sql} AS {alias}" for alias, c in part.columns.items())
                rows = part.layout.sql(engine, [self._readable(i) for i in chosen])
                condition = f" WHERE ({self.where}\n)" if self.where else ""
                queries.append(
                    f"SELECT {part.user.sql} AS key, {values}{more} FROM {rows}{condition}"
                )
        return " UNION ALL ".join(queries)

    def check(self, engine: Engine, number: int) -> RowCount:
        """Read a file once, and count its rows.

        Raises:
            SchemaError: If the file is damaged or a row is bad; names file, row, column and value.
        """
        path, part = self.files[number], self.parts[self.part_of[number]]
        if part.layout.is_parquet:
            verify_pages(path)
        elif not verify_text(path):
            write_plain(path, self._plain(number))
        rows = part.layout.sql(engine, [self._readable(number)])
        flags = "".join(f", {check.bad} AS bad_{i}" for i, check in enumerate(part.checks))
        counts = "".join(f", count_if(kept AND bad_{i})" for i in range(len(part.checks)))
        sql = (
            f"SELECT count(*), count_if(kept){counts} FROM "
            f"(SELECT coalesce({self._condition}, false) AS kept{flags} FROM {rows})"
        )
        with named(path):
            try:
                read, kept, *bad = engine.execute(sql)[0]
            except SchemaError:
                if not part.layout.is_parquet:
                    explain(path)
                if self.where:
                    explain_condition(engine, rows, self.where)
                raise
            for check, count in zip(part.checks, bad, strict=True):
                if count:
                    raise SchemaError(self._explain(engine, rows, check, count))
        return RowCount(read, read - (kept or 0))  # of no rows, SQL counts NULL

    def count(self, engine: Engine) -> None:
        """Check all files, and keep the counts of their rows.

        Raises:
            SchemaError: As `check`, or if there is no row.
        """
        counts = [self.check(engine, number) for number in range(len(self.files))]
        refuse_no_rows(counts, self.shown)
        for number, count in enumerate(counts):
            store_count(count, self.place, self.number, number)

    @property
    def _condition(self) -> str:
        return f"({self.where}\n)" if self.where else "true"

    def _explain(self, engine: Engine, rows: str, check: Check, count: int) -> str:
        engine.execute("SET preserve_insertion_order = true")  # rows are numbered
        found = engine.execute(
            "SELECT place, value FROM (SELECT row_number() OVER () AS place, "
            f"{columns.quoted(check.column)} AS value, {check.bad} AS bad, "
            f"{self._condition} AS kept FROM {rows}) "
            f"WHERE bad AND kept ORDER BY place LIMIT {ROWS_SHOWN}"
        )
        numbers = ", ".join(str(place) for place, _ in found)
        return clipped(
            f"column {value_shown(check.column)}: expected {check.expected}, got "
            f"{value_shown(found[0][1])} in row {found[0][0]} (bad rows: {count}, first: "
            f"{numbers}; the first row of data is 1)"
        )

    def _readable(self, number: int) -> pathlib.Path:
        plain = self._plain(number)
        return plain if plain.exists() else self.files[number]

    def _plain(self, number: int) -> pathlib.Path:
        return self.place / SCRATCH / f"plain-{self.number:03d}-{number:06d}.csv"


def plan_readings(
    engine: Engine,
    schema: TableSchema,
    inputs: Inputs,
    place: pathlib.Path,
    latest: int,
    *,
    labelled: bool = True,
) -> list[Reading]:
    """Look at the columns of every table that has files; the impressions come first.

    Args:
        engine: Reads the headers.
        schema: What the columns mean.
        inputs: The files.
        place: Directory of the build.
        latest: Unix seconds; a later time is refused.
        labelled: Whether labels and weights are read.

    Raises:
        SchemaError: If columns are missing or of a wrong type; names file and column.
    """
    owners = [(IMPRESSIONS, schema), *((events.name, events) for events in schema.streams)]
    readings = []
    for number, (name, owner) in enumerate(owners):
        files = inputs.files.get(name, ())
        if not files:
            continue
        layouts = [layout_of(engine, path) for path in files]
        parts: dict[Layout, Part] = {}
        for path, layout in zip(files, layouts, strict=True):
            if layout not in parts:
                with named(path):
                    parts[layout] = _plan_part(
                        layout, owner, schema.missing, latest, labelled=labelled
                    )
                    if owner.where:
                        rows = layout.sql(engine, [path])
                        check_condition(engine, rows, owner.where, list(layout.names))
        known = list(parts)
        part_of = tuple(known.index(layout) for layout in layouts)
        readings.append(
            Reading(name, number, owner.where, files, part_of, tuple(parts.values()), place)
        )
    return readings


def _plan_part(
    layout: Layout,
    owner: TableSchema | Events,
    missing: tuple[str, ...] | None,
    latest: int,
    *,
    labelled: bool,
) -> Part:
    types, needed = layout.types, owner.column_names
    if isinstance(owner, TableSchema) and not labelled:
        needed = owner.request_columns
    for column in needed:
        if column not in types:
            raise SchemaError(
                f"expected a column {value_shown(column)}, got {names_shown(layout.names)}"
            )
    absent = Absent.of(missing, parquet=layout.is_parquet)
    user = columns.user_id(owner.user, types[owner.user], absent=absent)
    if isinstance(owner, Events):
        return Part(layout, user, columns.event_columns(owner, types, absent, latest))
    found = columns.impression_columns(owner, types, absent, latest, labelled=labelled)
    return Part(layout, user, found)


def strangers(reading: Reading) -> SchemaError:
    """Return the error of a table of events of which no user is in the impressions."""
    return SchemaError(
        clipped(
            f"{path_shown(reading.shown)}: column {value_shown(reading.user_column)}: expected "
            "users that occur in the impressions, got none of them"
        )
    )
