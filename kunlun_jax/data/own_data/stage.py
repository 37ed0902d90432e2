"""From tables of any size to one small piece per shard, with ids in place of values.

    users        the users of the impressions, in ascending order: number, shard
    typed        every table, checked: seconds, ids as text, numbers, the number of the user
    split        when validation and test begin
    vocabulary   the values that training has seen often enough, in ascending order: id
    staged       every table again, with ids, one folder per shard

DuckDB joins, sorts and counts, on disk where memory does not suffice. Each step is a file that
appears when it is complete, so an interrupted build does not repeat it.
"""

import json
import pathlib
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.building.shards import shard_of_users
from kunlun_jax.data.own_data import collisions, columns, vocabularies
from kunlun_jax.data.own_data.engine import Engine, rewrite
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.reading import plan_readings, strangers
from kunlun_jax.data.own_data.row_counts import (
    describe_rows,
    spellings_path,
    store_spellings,
    stored_counts,
)
from kunlun_jax.data.own_data.splits import (
    Bounds,
    empty_split,
    places_of_bounds,
    uniform_of_users,
)
from kunlun_jax.data.own_data.table_schema import (
    IMPRESSIONS,
    Built,
    ByTime,
    Hashed,
    TableSchema,
)
from kunlun_jax.data.schema import OOV_ID, EventId, SchemaError, SparseFeature
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.files import publish

DAY = 86400


class Stage:
    """The steps between the input files and the shards.

    Attributes:
        users: Users of the data set.
        sizes: Known ids by vocabulary.
        vocabularies: By built vocabulary, what the manifest says of its file.
        collisions: By hashed vocabulary, what the manifest says of its values.
        rows: int64 [shards, splits], examples.
        input_rows: What the manifest says of the rows of the files.
    """

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
        """Run every step that is not done yet.

        Args:
            schema: What the columns mean.
            inputs: The files.
            place: Directory of the build.
            num_shards: Shards.
            threads: Threads.
            memory_gb: Memory in GB before the disk is used.

        Raises:
            SchemaError: If the tables are not what the schema says; names file, row, column.
        """
        self._schema, self._inputs, self._num_shards = schema, inputs, num_shards
        self._place, self._scratch = place, place / SCRATCH
        (place / vocabularies.FOLDER).mkdir(exist_ok=True)
        self._engine = Engine(self._scratch, threads=threads, memory_gb=memory_gb)
        names = schema.vocabulary_names
        steps = 3 + len(names) + 2 * len(schema.streams)
        try:
            with tqdm(total=steps, desc=f"{schema.name}: staging", unit="step") as bar:
                self._type_tables(bar)
                self._choose_splits()
                bar.update()
                self.sizes, self.vocabularies, self.collisions = {}, {}, {}
                for number, name in enumerate(names):
                    self.sizes[name] = self._build_vocabulary(number, name)
                    bar.update()
                self._encode_tables(bar)
                self.rows = self._count_rows()
        finally:
            self._engine.close()

    def _type_tables(self, bar: tqdm) -> None:
        """Check every table, number the users, and write the tables with typed columns."""
        latest = int(time.time()) + DAY
        kept = {}
        for reading in plan_readings(self._engine, self._schema, self._inputs, self._place, latest):
            typed = self._typed(reading.name)
            counted = stored_counts(self._place, reading.number, len(reading.files))
            if counted is None or not typed.exists():
                reading.count(self._engine)
            rows = reading.typed(self._engine)
            if reading.name == IMPRESSIONS:
                self.users = self._number_users(f"SELECT DISTINCT key FROM ({rows})")
            self._engine.copy(
                f"SELECT number, shard, unit, t.* EXCLUDE (key) FROM ({rows}) AS t "
                f"JOIN {self._from('users.parquet')} AS users ON t.key = users.key",
                typed,
            )
            kept[reading.name] = pq.read_metadata(typed).num_rows
            if not kept[reading.name]:
                raise strangers(reading)
            bar.update()
        self.input_rows = describe_rows(self._inputs, self._place, kept)

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
        if not spellings_path(self._place).exists():
            users = f"(SELECT key AS value FROM {self._from(path.name)})"
            counted = collisions.count_spellings(self._engine, users)
            store_spellings(*counted, self._place)
        count = pq.read_metadata(path).num_rows
        if count > np.iinfo(np.int32).max:
            raise SchemaError(f"users: expected at most 2^31 - 1, got {count}")
        return count

    def _choose_splits(self) -> None:
        """Find the seconds, or the uniform numbers, at which validation and test begin."""
        split, path = self._schema.split, self._scratch / "split.json"
        relation = self._from_typed(IMPRESSIONS)
        if isinstance(split, ByTime) and not path.exists():
            total = self._engine.execute(f"SELECT count(*) FROM {relation}")[0][0]
            seconds = []
            for place in places_of_bounds(split, total):
                ordered = f"SELECT time FROM {relation} ORDER BY time LIMIT 1 OFFSET {place}"
                seconds.append(self._engine.execute(ordered)[0][0])
            publish(path, json.dumps(seconds))
        seconds = json.loads(path.read_text()) if isinstance(split, ByTime) else []
        self._split = Bounds.of(split, seconds).sql
        found = self._engine.execute(f"SELECT DISTINCT {self._split} FROM {relation}")
        for number, name in enumerate(SPLITS):
            if (number,) not in found:
                raise empty_split(self._schema, name)

    def _build_vocabulary(self, number: int, name: str) -> int:
        kind = self._schema.vocabulary(name)
        if isinstance(kind, Hashed):
            if not collisions.counts_path(self._place, number).exists():
                queries = self._values(name, "true")
                counts = collisions.count_values(self._engine, queries, kind)
                collisions.store_counts(counts, self._place, number)
            self.collisions[name] = collisions.describe_collisions(self._place, number, kind)
            return kind.num_ids
        if not (self._place / vocabularies.vocabulary_file(number)).exists():
            seen = " UNION ALL ".join(self._values(name, f"{self._split} = 0"))
            ordered = self._scratch / f"values-{number:03d}.parquet"
            self._engine.copy(
                f"SELECT value, count(*) AS count FROM ({seen}) WHERE value IS NOT NULL "
                f"GROUP BY value HAVING count(*) >= {kind.min_count} ORDER BY value",
                ordered,
                in_order=True,
            )
            vocabularies.write_vocabulary([ordered], self._place, number)
        size, self.vocabularies[name] = vocabularies.describe_vocabulary(self._place, number)
        if not size:
            raise vocabularies.no_values(name, kind)
        return size

    def _values(self, vocabulary: str, condition: str) -> list[str]:
        """Return a query for each column of ids of a vocabulary: its values, one per row."""
        queries = []
        for table, alias, feature in vocabularies.id_columns(self._schema):
            if feature.vocabulary == vocabulary:
                value = vocabularies.each_value(alias, feature)
                relation = self._from_typed(table)
                queries.append(f"SELECT {value} AS value FROM {relation} WHERE {condition}")
        return queries

    def _encode_tables(self, bar: tqdm) -> None:
        for name in self._tables():
            self._encode(name, f", {self._split} AS split" if name == IMPRESSIONS else "")
            bar.update()

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
        number = self._schema.vocabulary_names.index(feature.vocabulary)
        values = self._read(self._place / vocabularies.vocabulary_file(number))
        if not columns.is_list(feature):
            return values if isinstance(kind, Built) else None
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

    def _count_rows(self) -> np.ndarray:
        # Each folder of a shard is called shard=0, shard=1, ...; nothing else in the path is read.
        files = self._engine.path(self._scratch / "staged-0", "/*/*.parquet")
        counted = self._engine.execute(
            f"SELECT shard, split, count(*) FROM read_parquet({files}, hive_partitioning=true) "
            "GROUP BY ALL"
        )
        rows = np.zeros((self._num_shards, len(SPLITS)), dtype=np.int64)
        for shard, split, count in counted:
            rows[int(shard), split] = count
        return rows

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
