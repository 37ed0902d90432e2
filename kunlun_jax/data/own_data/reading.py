"""What is read of each input table: the same expressions and checks, whichever engine runs them."""

import dataclasses
import pathlib

from kunlun_jax.data.own_data import columns
from kunlun_jax.data.own_data.columns import Check, Column
from kunlun_jax.data.own_data.engine import Engine, Table, named
from kunlun_jax.data.own_data.inputs import PARQUET, Inputs
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Events, TableSchema
from kunlun_jax.data.own_data.texts import Absent
from kunlun_jax.data.schema import SchemaError


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a table is read.

    Attributes:
        name: "impressions", or the name of the stream.
        files: Its files.
        where: SQL condition; "" takes all rows.
        user: The column of the user, who has to be there.
        columns: The other columns by the names they go by from here (`columns.impression_columns`,
            `columns.event_columns`).
    """

    name: str
    files: tuple[pathlib.Path, ...]
    where: str
    user: Column
    columns: dict[str, Column]

    def open(self, engine: Engine, files: tuple[pathlib.Path, ...] = ()) -> Table:
        """Return the table, or the part of it that is in the given files.

        Raises:
            SchemaError: As `Table`.
        """
        return Table(engine, self.name, files or self.files, self.where)

    @property
    def checks(self) -> list[Check]:
        """What no row may be."""
        return [check for c in (self.user, *self.columns.values()) for check in c.checks]

    def typed(self, table: Table) -> str:
        """Return the query of the typed rows: the user as `key`, and the columns."""
        values = ", ".join(f"{column.sql} AS {alias}" for alias, column in self.columns.items())
        return f"SELECT {self.user.sql} AS key, {values} FROM {table.sql}"


def plan_readings(
    engine: Engine, schema: TableSchema, inputs: Inputs, latest: int
) -> list[Reading]:
    """Look at the columns of every table; the impressions come first, then the streams.

    Args:
        engine: Reads the headers.
        schema: What the columns mean.
        inputs: The files.
        latest: Unix seconds; a later time is refused.

    Raises:
        SchemaError: If columns are missing or of a wrong type; names file and column.
    """
    readings = []
    for owner, name in (
        (schema, IMPRESSIONS),
        *((events, events.name) for events in schema.streams),
    ):
        table = Table(engine, name, inputs.files[name], owner.where)
        table.require(owner.column_names)
        with named(table.place):
            parquet = inputs.files[name][0].suffix in PARQUET
            absent = Absent.of(schema.missing, parquet=parquet)
            user = columns.user_id(owner.user, table.types[owner.user], absent=absent)
            if isinstance(owner, Events):
                wanted = columns.event_columns(owner, table.types, absent, latest)
            else:
                wanted = columns.impression_columns(owner, table.types, absent, latest)
        readings.append(Reading(name, inputs.files[name], owner.where, user, wanted))
    return readings


def strangers(reading: Reading, place: str) -> SchemaError:
    """Return the error of a table of events of which no user is in the impressions."""
    return SchemaError(
        f"{place}: column {reading.user.checks[0].column!r}: expected users that occur in the "
        "impressions, got none of them"
    )
