"""Popularity in tables of your own: counted by value, before values become ids.

So what is out of vocabulary, such as an item that came after training, is as popular as it is.
All events of a table are counted, also those of users without impressions.
"""

import dataclasses

from kunlun_jax.data.counting import DAY
from kunlun_jax.data.cross import Popularity
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, TableSchema
from kunlun_jax.data.own_data.vocabularies import id_columns


@dataclasses.dataclass(frozen=True)
class PopularityGroup:
    """Columns of popularity that are counted together: of one stream and one id.

    Attributes:
        number: Of the group.
        stream: The stream.
        events: Column of the id, in the events.
        offered: Column of the id, in the impressions.
        windows: Days.
        names: What the columns are called in the staged impressions.
    """

    number: int
    stream: str
    events: str
    offered: str
    windows: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def declaration(self) -> Popularity:
        """The group as a declaration, of whose id the column is `value`."""
        return Popularity(self.stream, ("value",), self.windows)

    @property
    def file(self) -> str:
        """The name of the file of the counts."""
        return f"popularity-{self.number:03d}.parquet"

    def counts(self, events: str, impressions: str) -> str:
        """Return a query of `value`, `moment` and the columns, for all that is offered at a time.

        A running count of the events is asked at the moment and at the starts of its windows, each
        time of what is strictly before; a window has the difference. The count runs within a week,
        and weeks are added up: one sort does it, and memory has to hold the events of a value in a
        week, where all those of a frequent value would not fit.

        Args:
            events: Relation of the stream.
            impressions: Relation of the impressions.
        """
        offers = f"SELECT DISTINCT {self.offered} AS value, time FROM {impressions}"
        rows = (
            f"SELECT value, time, time // {7 * DAY} AS week, happened, moment, days FROM ("
            f"SELECT {self.events} AS value, time, 1 AS happened, NULL AS moment, NULL AS days "
            f"FROM {events} UNION ALL SELECT value, time - days * {DAY}, 0, time, days "
            f"FROM ({offers}), (SELECT unnest({[0, *self.windows]}) AS days)"
            ") WHERE value IS NOT NULL"
        )
        in_weeks = (
            f"SELECT value, week, sum(happened) AS happened FROM ({rows}) GROUP BY value, week"
        )
        earlier = (
            "SELECT value, week, sum(happened) OVER (PARTITION BY value ORDER BY week "
            f"ROWS UNBOUNDED PRECEDING) - happened AS count FROM ({in_weeks})"
        )
        in_its_week = (
            "SELECT *, sum(happened) OVER (PARTITION BY value, week ORDER BY time, happened "
            f"ROWS UNBOUNDED PRECEDING) AS count FROM ({rows})"
        )
        before = "max(now.count + earlier.count) FILTER (days = {})"
        counts = ", ".join(
            f"{before.format(0)} - {before.format(days)} AS {name}"
            for name, days in zip(self.names, self.windows, strict=True)
        )
        return (
            f"SELECT now.value, moment, {counts} FROM "
            f"(SELECT * FROM ({in_its_week}) WHERE moment IS NOT NULL) AS now JOIN ({earlier}) AS "
            "earlier ON now.value = earlier.value AND now.week = earlier.week GROUP BY ALL"
        )

    def join(self, counts: str) -> str:
        """Return how impressions `t` are joined with a relation of their counts."""
        name = f"popularity_{self.number}"
        condition = f"t.{self.offered} = {name}.value AND t.time = {name}.moment"
        return f"LEFT JOIN {counts} AS {name} ON {condition}"


def popularity_groups(schema: TableSchema) -> list[PopularityGroup]:
    """Return the groups of a schema; all their columns are p0, p1, ... in its order."""
    columns = {(table, f.name): alias for table, alias, f in id_columns(schema)}
    groups, count = [], 0
    for one in schema.popularities:
        for name in one.ids:
            names = tuple(f"p{count + i}" for i in range(len(one.windows)))
            count += len(names)
            offered = columns[IMPRESSIONS, name]
            groups.append(
                PopularityGroup(
                    len(groups), one.stream, columns[one.stream, name], offered, one.windows, names
                )
            )
    return groups
