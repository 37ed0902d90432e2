"""From tables of any size to one small piece per shard, with ids in place of values.

Between the steps of `staging.py`, which type tables and give them ids, a build finds:

    split         when validation and test begin
    vocabulary    the values that training has seen often enough, in ascending order: id; in a data
                  set that extends another, they come behind those that this one knew
"""

import json
import pathlib

import numpy as np
from tqdm import tqdm

from kunlun_jax.data.extension import Parent
from kunlun_jax.data.own_data import collisions, vocabularies
from kunlun_jax.data.own_data.encoding import count_popularity, encode
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.reading import plan_readings, strangers
from kunlun_jax.data.own_data.row_counts import describe_rows, spellings_path, store_spellings
from kunlun_jax.data.own_data.splits import Bounds, empty_split, places_of_bounds
from kunlun_jax.data.own_data.staging import Staging, latest_moment
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, ByTime, Hashed, TableSchema
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.files import publish


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
        parent: Parent | None = None,
    ) -> None:
        """Run every step that is not done yet.

        Args:
            schema: What the columns mean.
            inputs: The files.
            place: Directory of the build.
            num_shards: Shards.
            threads: Threads.
            memory_gb: Memory in GB before the disk is used.
            parent: The data set that is extended.

        Raises:
            SchemaError: If the tables are not what the schema says; names file, row, column.
        """
        self._staging = Staging(
            schema, place, num_shards=num_shards, threads=threads, memory_gb=memory_gb
        )
        self._schema, self._inputs, self._place = schema, inputs, place
        self._parent = parent
        self._scratch, self._engine = self._staging.scratch, self._staging.engine
        (place / vocabularies.FOLDER).mkdir(exist_ok=True)
        names = schema.vocabulary_names
        steps = 4 + len(names) + 2 * len(schema.streams)
        try:
            with tqdm(total=steps, desc=f"{schema.name}: staging", unit="step") as bar:
                self._type_tables(bar)
                self.users = self._staging.users
                self._choose_splits()
                bar.update()
                count_popularity(self._staging)
                bar.update()
                self.sizes, self.vocabularies, self.collisions = {}, {}, {}
                for number, name in enumerate(names):
                    self.sizes[name] = self._build_vocabulary(number, name)
                    bar.update()
                self._encode_tables(bar)
                self.rows = self._count_rows(num_shards)
        finally:
            self._engine.close()

    def _type_tables(self, bar: tqdm) -> None:
        """Check every table, number the users, and write the tables with typed columns."""
        latest = latest_moment()
        kept = {}
        for reading in plan_readings(self._engine, self._schema, self._inputs, self._place, latest):
            kept[reading.name] = self._staging.type_table(reading)
            if not kept[reading.name]:
                raise strangers(reading)
            bar.update()
        if not spellings_path(self._place).exists():
            users = f"(SELECT key AS value FROM {self._staging.relation('users.parquet')})"
            counted = collisions.count_spellings(self._engine, users)
            store_spellings(*counted, self._place)
        self.input_rows = describe_rows(self._inputs, self._place, kept)

    def _choose_splits(self) -> None:
        """Find the seconds, or the uniform numbers, at which validation and test begin."""
        split, path = self._schema.split, self._scratch / "split.json"
        relation = self._staging.known_rows(IMPRESSIONS)
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
            known = self._engine.path(self._parent.values(name)) if self._parent else None
            ordered = self._scratch / f"values-{number:03d}.parquet"
            query = vocabularies.values_in_order(seen, kind, known)
            self._engine.copy(query, ordered, in_order=True)
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
                relation = self._staging.known_rows(table)
                queries.append(f"SELECT {value} AS value FROM {relation} WHERE {condition}")
        return queries

    def _encode_tables(self, bar: tqdm) -> None:
        def file(vocabulary: str) -> pathlib.Path:
            number = self._schema.vocabulary_names.index(vocabulary)
            return self._place / vocabularies.vocabulary_file(number)

        for name in self._staging.tables:
            more = f", {self._split} AS split" if name == IMPRESSIONS else ""
            encode(self._staging, name, file, more)
            bar.update()

    def _count_rows(self, num_shards: int) -> np.ndarray:
        # Each folder of a shard is called shard=0, shard=1, ...; nothing else in the path is read.
        files = self._engine.path(self._scratch / "staged-0", "/*/*.parquet")
        counted = self._engine.execute(
            f"SELECT shard, split, count(*) FROM read_parquet({files}, hive_partitioning=true) "
            "GROUP BY ALL"
        )
        rows = np.zeros((num_shards, len(SPLITS)), dtype=np.int64)
        for shard, split, count in counted:
            rows[int(shard), split] = count
        return rows
