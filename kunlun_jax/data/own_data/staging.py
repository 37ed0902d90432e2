"""Tables on their way to shards: what a build of a data set and a prediction have in common.

    users     the users of the impressions, in ascending order: number, shard
    typed     every table, checked: seconds, ids as text, numbers, the number of the user
    staged    every table again, with ids, one folder per shard

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
from kunlun_jax.data.own_data import columns, vocabularies
from kunlun_jax.data.own_data.engine import Engine, rewrite
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.reading import Reading
from kunlun_jax.data.own_data.row_counts import stored_counts
from kunlun_jax.data.own_data.splits import uniform_of_users
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Built, TableSchema
from kunlun_jax.data.schema import OOV_ID, EventId, SchemaError, SparseFeature

DAY = 86400


def latest_moment() -> int:
    """Return the last second that is not in the future, give or take the day of a time zone."""
    return int(time.time()) + DAY


class Staging:
    """The steps; whoever inherits them says which ones, in what order."""

    def __init__(
        self,
        schema: TableSchema,
        inputs: Inputs,
        place: pathlib.Path,
        *,
        num_shards: int,
        threads: int,
        memory_gb: float,
    ) -> None:
        """Connect to the engine; nothing is read yet.

        Args:
            schema: What the columns mean.
            inputs: The files.
            place: Directory of the build.
            num_shards: Shards.
            threads: Threads.
            memory_gb: Memory in GB before the disk is used.
        """
        self._schema, self._inputs, self._num_shards = schema, inputs, num_shards
        self._place, self._scratch = place, place / SCRATCH
        self._engine = Engine(self._scratch, threads=threads, memory_gb=memory_gb)

    def _vocabulary(self, name: str) -> pathlib.Path:
        """Return the file of a vocabulary that was built."""
        number = self._schema.vocabulary_names.index(name)
        return self._place / vocabularies.vocabulary_file(number)

    def _check_table(self, reading: Reading) -> None:
        """Read the files of a table once, unless that has been done; only then have them typed.

        Raises:
            SchemaError: If one is damaged or a row is bad; names file, row, column and value.
        """
        counted = stored_counts(self._place, reading.number, len(reading.files))
        if counted is None or not self._typed(reading.name).exists():
            reading.count(self._engine)

    def _type_table(self, reading: Reading, rows: str, *, in_order: bool = False) -> int:
        """Write the typed rows of a table, those of known users; return how many.

        Args:
            reading: How it is read.
            rows: Query of its rows, those that `Reading.typed` gives and maybe more columns.
            in_order: Whether they are read in the order of the files, so that they can be numbered.
        """
        typed = self._typed(reading.name)
        if reading.name == IMPRESSIONS:
            self.users = self._number_users(f"SELECT DISTINCT key FROM ({rows})")
        self._engine.copy(
            f"SELECT number, shard, unit, t.* EXCLUDE (key) FROM ({rows}) AS t "
            f"JOIN {self._from('users.parquet')} AS users ON t.key = users.key",
            typed,
            in_order=in_order,
        )
        return pq.read_metadata(typed).num_rows

    def _number_users(self, keys: str) -> int:
        """Write key, number, shard and a uniform number of every user; return how many."""
        path, ordered = self._scratch / "users.parquet", self._scratch / "user_keys.parquet"
        if not path.exists():
            self._engine.copy(f"{keys} ORDER BY key", ordered, in_order=True)

            def number(first: int, batch: pa.Table) -> dict[str, Any]:
                numbers = np.arange(first, first + batch.num_rows)
                return {
                    "key": batch.column(0),
                    "number": numbers,
                    "shard": shard_of_users(numbers, self._num_shards),
                    "unit": uniform_of_users(self._schema, numbers),
                }

            rewrite([ordered], path, number)
        count = pq.read_metadata(path).num_rows
        if count > np.iinfo(np.int32).max:
            raise SchemaError(f"users: expected at most 2^31 - 1, got {count}")
        return count

    def _encode(self, table: str, more: str) -> None:
        """Write a table with ids, one folder per shard."""
        ids, joins = [], []
        for name, alias, feature in vocabularies.id_columns(self._schema):
            if name == table:
                relation = self._lookup(table, alias, feature)
                if relation is None:
                    known = vocabularies.hashed_sql(
                        alias, self._schema.vocabulary(feature.vocabulary)
                    )
                else:
                    known = f"v_{alias}.id"
                    joins.append(
                        f"LEFT JOIN {relation} AS v_{alias} ON t.{alias} = v_{alias}.value"
                    )
                    if not columns.is_list(feature):
                        known = (
                            f"CASE WHEN t.{alias} IS NOT NULL THEN coalesce({known}, {OOV_ID}) END"
                        )
                ids.append(f"{known} AS {alias}")
        exclude = ", ".join(["unit", *(i.split(" AS ")[-1] for i in ids)])
        select = ", ".join([f"t.* EXCLUDE ({exclude})", *ids])
        self._engine.copy(
            f"SELECT {select}{more} FROM {self._from_typed(table)} AS t {' '.join(joins)}",
            self._scratch / f"staged-{self._number(table)}",
            partition_by="shard",
        )

    def _lookup(self, table: str, alias: str, feature: SparseFeature | EventId) -> str | None:
        """Return a relation (value, id) for a column, None if its ids are computed."""
        kind = self._schema.vocabulary(feature.vocabulary)
        values = ""
        if isinstance(kind, Built):
            values = self._read(self._vocabulary(feature.vocabulary))
        if not columns.is_list(feature):
            return values or None
        # Every different list is encoded once, and then looked up as a whole.
        if isinstance(kind, Built):
            known = f"coalesce(v.id, {OOV_ID})"
            join = f"LEFT JOIN {values} AS v ON one = v.value"
        else:
            known, join = vocabularies.hashed_sql("one", kind), ""
        cells = f"SELECT DISTINCT {alias} AS cell FROM {self._from_typed(table)}"
        parts = f"string_split(cell, {columns.UNIT_SEPARATOR})"
        self._engine.copy(
            f"SELECT cell AS value, list({known} ORDER BY place) AS id FROM "
            f"(SELECT cell, unnest({parts}) AS one, generate_subscripts({parts}, 1) AS place "
            f"FROM ({cells}) WHERE cell IS NOT NULL) {join} GROUP BY cell",
            self._scratch / f"lists-{alias}.parquet",
        )
        return self._from(f"lists-{alias}.parquet")

    def _tables(self) -> list[str]:
        """Return the names of the tables; the impressions come first."""
        return [IMPRESSIONS, *(events.name for events in self._schema.streams)]

    def _number(self, table: str) -> int:
        """Return 0 for the impressions, and 1, 2, ... for the streams."""
        return self._tables().index(table)

    def _typed(self, table: str) -> pathlib.Path:
        return self._scratch / f"typed-{self._number(table)}.parquet"

    def _from_typed(self, table: str) -> str:
        return self._from(self._typed(table).name)

    def _from(self, name: str) -> str:
        return self._read(self._scratch / name)

    def _read(self, path: pathlib.Path) -> str:
        return f"read_parquet({self._engine.path(path)}, hive_partitioning=false)"
