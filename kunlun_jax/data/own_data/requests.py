"""Tables of requests and of events, read as a build reads them, with the ids that a build gave."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.hashing import id_dtypes
from kunlun_jax.data.own_data.columns import quoted
from kunlun_jax.data.own_data.encoding import count_popularity, encode
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.messages import named, names_shown, value_shown
from kunlun_jax.data.own_data.reading import Reading, plan_readings
from kunlun_jax.data.own_data.shards import read_events, read_examples, read_shard, with_counts
from kunlun_jax.data.own_data.staging import Staging, latest_moment
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, TableSchema
from kunlun_jax.data.reading.gather import Columns, padded_log
from kunlun_jax.data.schema import Schema, SchemaError
from kunlun_jax.data.sources.encoding import events_before


@dataclasses.dataclass(frozen=True)
class Place:
    """Where rows of the impressions stand.

    Attributes:
        files: int64 [n], number of the file.
        rows: int64 [n], from 1, among the rows that the condition of the schema takes.
    """

    files: np.ndarray
    rows: np.ndarray


class RequestTables:
    """Requests without labels, and the events before them, in one piece per shard.

    Attributes:
        num_shards: Pieces.
    """

    def __init__(
        self,
        schema: TableSchema,
        inputs: Inputs,
        place: pathlib.Path,
        *,
        vocabularies: Mapping[str, pathlib.Path],
        keep: Sequence[str],
        num_shards: int,
        threads: int,
        memory_gb: float,
    ) -> None:
        """Run every step that is not done yet.

        Args:
            schema: What the columns mean; labels and weights need not be there.
            inputs: The files.
            place: Directory of the work, with a folder `scratch`.
            vocabularies: File of every vocabulary that was built.
            keep: Columns of the impressions that scores are written beside.
            num_shards: Pieces.
            threads: Threads.
            memory_gb: Memory in GB before the disk is used.

        Raises:
            SchemaError: If the tables are not what the schema says; names file, row, column.
        """
        self._staging = Staging(
            schema, place, num_shards=num_shards, threads=threads, memory_gb=memory_gb
        )
        self._engine, self.num_shards, self._keep = self._staging.engine, num_shards, tuple(keep)
        try:
            for reading in plan_readings(
                self._engine, schema, inputs, place, latest_moment(), labelled=False
            ):
                is_first = reading.name == IMPRESSIONS
                rows = self._numbered(reading) if is_first else ""
                self._staging.type_table(reading, rows, in_order=is_first)
            count_popularity(self._staging)
            for name in self._staging.tables:
                encode(self._staging, name, vocabularies.__getitem__)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect from the engine."""
        self._engine.close()

    def _numbered(self, reading: Reading) -> str:
        """Return the query of the rows of the impressions, each with its place and what is kept."""
        kinds: dict[str, set[str]] = {name: set() for name in self._keep}
        for file, part in zip(reading.files, reading.part_of, strict=True):
            layout = reading.parts[part].layout
            for name in self._keep:
                if name not in layout.types:
                    with named(file):
                        raise SchemaError(
                            f"expected a column {value_shown(name)} to keep, got "
                            f"{names_shown(layout.names)}"
                        )
                kinds[name].add(layout.types[name])
        kept = ""
        for number, name in enumerate(self._keep):
            # Of files whose types differ, as CSV and Parquet, the text.
            value = quoted(name) if len(kinds[name]) == 1 else f"CAST({quoted(name)} AS VARCHAR)"
            kept += f", {value} AS k{number}"
        return " UNION ALL ".join(
            reading.typed(
                self._engine,
                [file],
                f", CAST({file} AS BIGINT) AS file, row_number() OVER () AS place{kept}",
            )
            for file in range(len(reading.files))
        )

    def shard(
        self, number: int, schema: Schema, max_lens: Mapping[str, int]
    ) -> tuple[Columns, Place]:
        """Return the requests of a shard, ready to be gathered, and where they stand.

        Args:
            number: Which shard.
            schema: The schema of the data set.
            max_lens: By stream, the events that the model takes.
        """
        tables = read_shard(self._staging.scratch, number, 1 + len(schema.streams))
        examples = read_examples(tables[0], schema)
        users, user = np.unique(examples.users, return_inverse=True)
        counted = {cross.stream for cross in schema.cross}
        logs = {
            stream.name: read_events(rows, stream, users, id_dtypes(schema))
            for stream, rows in zip(schema.streams, tables[1:], strict=True)
            if stream.name in counted.union(max_lens)
        }
        examples = with_counts(
            dataclasses.replace(
                examples,
                users=user.astype(np.int32),
                ends={n: events_before(logs[n], user, examples.request_times) for n in max_lens},
            ),
            schema,
            logs,
        )
        examples = dataclasses.replace(examples, dense=standardize(examples.dense, schema.dense))
        padded = {
            name: padded_log(logs[name], schema.stream_by_name[name], max_len)
            for name, max_len in max_lens.items()
        }
        place = Place(tables[0].numbers("file", np.int64), tables[0].numbers("place", np.int64))
        return Columns(schema, examples, users.astype(np.int32), padded), place

    def write(
        self, scores: Sequence[pathlib.Path], names: Sequence[str], out: pathlib.Path
    ) -> None:
        """Write what is kept of every request beside its scores, in the order of the input.

        Args:
            scores: Parquet files with file, place and the columns of scores.
            names: The columns of scores.
            out: Parquet or CSV, by its name.

        Raises:
            OSError: If it cannot be written.
        """
        kept = [f"t.k{i} AS {quoted(name)}" for i, name in enumerate(self._keep)]
        columns = ", ".join([*kept, *(f"s.{quoted(name)}" for name in names)])
        files = ", ".join(self._engine.path(path) for path in scores)
        self._engine.copy(
            f"SELECT {columns} FROM {self._staging.known_rows(IMPRESSIONS)} AS t "
            f"JOIN read_parquet([{files}], hive_partitioning=false) AS s "
            "ON t.file = s.file AND t.place = s.place ORDER BY t.file, t.place",
            out,
            in_order=True,
        )
