"""Tables on their way to shards: what a build of a data set and a prediction have in common.

    users       the users of the impressions, in ascending order: number, shard
    typed       every table, checked: seconds, ids as text, numbers, the number of the user
    popularity  of all that is offered at a time: its events in the days before (popularity.py)
    staged      every table again, with ids, one folder per shard (encoding.py)

DuckDB joins and sorts, on disk where memory does not suffice. Each step is a file that appears when
it is complete, so that what is interrupted does not repeat it.
"""

import pathlib
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.building.shards import shard_of_users
from kunlun_jax.data.counting import DAY
from kunlun_jax.data.own_data.engine import Engine, rewrite
from kunlun_jax.data.own_data.popularity import popularity_groups
from kunlun_jax.data.own_data.reading import Reading
from kunlun_jax.data.own_data.row_counts import stored_counts
from kunlun_jax.data.own_data.splits import uniform_of_users
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, TableSchema
from kunlun_jax.data.schema import SchemaError


def latest_moment() -> int:
    """Return the last second that is not in the future, give or take the day of a time zone."""
    return int(time.time()) + DAY


class Staging:
    """The engine, the names of its files, and the steps up to typed tables.

    Attributes:
        schema: What the columns mean.
        scratch: Where the files of the steps lie.
        engine: Makes them.
        popularity: What is counted of all users' events.
        users: Users, once the impressions are typed.
    """

    def __init__(
        self,
        schema: TableSchema,
        place: pathlib.Path,
        *,
        num_shards: int,
        threads: int,
        memory_gb: float,
    ) -> None:
        """Connect to the engine; nothing is read yet.

        Args:
            schema: What the columns mean.
            place: Directory of the build.
            num_shards: Shards.
            threads: Threads.
            memory_gb: Memory in GB before the disk is used.
        """
        self.schema, self.scratch, self.users = schema, place / SCRATCH, 0
        self.popularity = popularity_groups(schema)
        self._place, self._num_shards = place, num_shards
        self.engine = Engine(self.scratch, threads=threads, memory_gb=memory_gb)

    @property
    def tables(self) -> list[str]:
        """The names of the tables; the impressions come first."""
        return [IMPRESSIONS, *(events.name for events in self.schema.streams)]

    def type_table(self, reading: Reading, rows: str = "", *, in_order: bool = False) -> int:
        """Check a table and write its typed rows, unless that is done; return those of known users.

        Rows of others are written only of streams whose popularity is counted.

        Args:
            reading: How it is read.
            rows: Query of its rows, those that `Reading.typed` gives, maybe with more columns.
            in_order: Whether they are read in the order of the files, so that they can be numbered.

        Raises:
            SchemaError: If a file is damaged or a row is bad; names file, row, column and value.
        """
        typed = self.typed(reading.name)
        counted = stored_counts(self._place, reading.number, len(reading.files))
        if counted is None or not typed.exists():
            reading.count(self.engine)
        rows = rows or reading.typed(self.engine)
        if reading.name == IMPRESSIONS:
            self.users = self._number_users(f"SELECT DISTINCT key FROM ({rows})")
        everyone = reading.name in {group.stream for group in self.popularity}
        self.engine.copy(
            f"SELECT number, shard, unit, t.* EXCLUDE (key) FROM ({rows}) AS t "
            f"{'LEFT ' if everyone else ''}JOIN {self.relation('users.parquet')} AS users "
            "ON t.key = users.key",
            typed,
            in_order=in_order,
        )
        return self.engine.execute(f"SELECT count(number) FROM {self.relation(typed.name)}")[0][0]

    def _number_users(self, keys: str) -> int:
        """Write key, number, shard and a uniform number of every user; return how many."""
        path, ordered = self.scratch / "users.parquet", self.scratch / "user_keys.parquet"
        if not path.exists():
            self.engine.copy(f"{keys} ORDER BY key", ordered, in_order=True)

            def number(first: int, batch: pa.Table) -> dict[str, Any]:
                numbers = np.arange(first, first + batch.num_rows)
                return {
                    "key": batch.column(0),
                    "number": numbers,
                    "shard": shard_of_users(numbers, self._num_shards),
                    "unit": uniform_of_users(self.schema, numbers),
                }

            rewrite([ordered], path, number)
        count = pq.read_metadata(path).num_rows
        if count > np.iinfo(np.int32).max:
            raise SchemaError(f"users: expected at most 2^31 - 1, got {count}")
        return count

    def typed(self, table: str) -> pathlib.Path:
        """Return the file of the typed rows of a table."""
        return self.scratch / f"typed-{self.tables.index(table)}.parquet"

    def known_rows(self, table: str) -> str:
        """Return a relation of the typed rows of a table, those of known users."""
        return f"(SELECT * FROM {self.relation(self.typed(table).name)} WHERE number IS NOT NULL)"

    def relation(self, name: str | pathlib.Path) -> str:
        """Return a relation of the rows of a Parquet file, by default one in `scratch`."""
        path = self.engine.path(self.scratch / name)
        return f"read_parquet({path}, hive_partitioning=false)"
