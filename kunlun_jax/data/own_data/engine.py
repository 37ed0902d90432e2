"""DuckDB, which joins and sorts tables larger than memory."""

import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.own_data.links import Links
from kunlun_jax.data.own_data.messages import clipped
from kunlun_jax.data.own_data.texts import literal
from kunlun_jax.data.parquet import ROWS_AT_ONCE, row_batches
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.files import discard_parts, part_of, settle

# Characters of what DuckDB says.
ENGINE_SHOWN = 180


class Engine:
    """A connection with bounded memory that spills into a directory."""

    def __init__(self, scratch: pathlib.Path, *, threads: int, memory_gb: float) -> None:
        """Connect.

        Args:
            scratch: An existing directory for what does not fit into memory.
            threads: Threads.
            memory_gb: Memory in GB.

        Raises:
            ImportError: If DuckDB is not installed.
        """
        try:
            import duckdb
        except ImportError as error:
            raise ImportError(
                "tables of your own are joined by DuckDB: pip install 'kunlun_jax[own-data]'"
            ) from error
        self._errors = duckdb
        spilled = scratch / "spilled"
        shutil.rmtree(spilled, ignore_errors=True)  # of a build that was killed
        self._links = Links()
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{int(memory_gb * 1000)}MB",
                "threads": threads,
                "temp_directory": self._links.name(spilled),
            }
        )
        self.execute("SET TimeZone = 'UTC'")
        # Whatever stands to the right of a JOIN is the smaller one, and is held in memory. The
        # optimizer knows no size of a CSV file, and would hold that.
        self.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
        self._links.close()

    def path(self, path: pathlib.Path, below: str = "") -> str:
        """Return SQL for a path, in which no character of it means anything else.

        Args:
            path: A file or a folder; the build's own may not be there yet.
            below: A pattern of what is in the folder, such as "/*.parquet".
        """
        return literal(self._links.name(path) + below)

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows.

        Raises:
            SchemaError: If a file is not what its name says.
            MemoryError: If the memory limit cannot be kept.
            OSError: If the disk is full or fails.
        """
        errors = self._errors
        try:
            return self._connection.execute(sql).fetchall()
        except errors.OutOfMemoryException as error:
            raise MemoryError(f"DuckDB: {self._brief(error)}; give a larger --memory_gb") from error
        except (errors.IOException, errors.HTTPException) as error:
            if "Parquet" in str(error) or "parquet" in str(error):
                raise SchemaError(self._brief(error)) from error
            raise OSError(f"DuckDB: {self._brief(error)}") from error
        except errors.Error as error:  # SQL that is none, or a file that is damaged
            raise SchemaError(self._brief(error)) from error

    def _brief(self, error: Exception) -> str:
        """Return the part of a message that speaks of the data, on one line."""
        kept = []
        for line in str(error).splitlines():
            if not line.strip() or line.startswith(("Possible", "LINE ", "*", "  ")):
                break
            kept.append(line.strip())
        return clipped(self._links.restore(" ".join(kept)), ENGINE_SHOWN)

    def copy(
        self, sql: str, path: pathlib.Path, *, in_order: bool = False, partition_by: str = ""
    ) -> None:
        """Write the rows of a query to Parquet, or to CSV if the name says so, unless it is done.

        Args:
            sql: The query.
            path: A file, or with `partition_by` a folder; it is there only when it is complete.
            in_order: Whether the order of the rows matters; it takes more memory.
            partition_by: A column; each of its values gets a folder.
        """
        if path.exists():
            return
        discard_parts(path)
        temporary = part_of(path)
        kind = "csv, HEADER" if path.suffix.lower() == ".csv" else "parquet"
        options = f", PARTITION_BY ({partition_by})" if partition_by else ""
        self.execute(f"SET preserve_insertion_order = {str(in_order).lower()}")
        self.execute(f"COPY ({sql}) TO {self.path(temporary)} (FORMAT {kind}{options})")
        settle(temporary, path)


def rewrite(sources: list[pathlib.Path], target: pathlib.Path, columns_of: Any) -> None:
    """Write Parquet files anew as one, a few rows at a time, and remove the old ones.

    Args:
        sources: The files, at least one.
        target: The new file; its bytes depend on the rows alone.
        columns_of: Returns new columns, given the number of the first row and a table of rows.
    """
    discard_parts(target)
    temporary = part_of(target)
    writer, first = None, 0
    for rows in _equal_parts(sources):
        table = pa.table(columns_of(first, rows))
        writer = writer or pq.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
        first += rows.num_rows
    assert writer is not None
    writer.close()
    settle(temporary, target)
    for source in sources:
        source.unlink()


def _equal_parts(sources: list[pathlib.Path]) -> Iterator[pa.Table]:
    """Yield ROWS_AT_ONCE rows, however the files divide them; if there is none, an empty table."""
    rest = pq.read_schema(sources[0]).empty_table()
    yielded = False
    for source in sources:
        for batch in row_batches(source):
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
            while rest.num_rows >= ROWS_AT_ONCE:
                yield rest.slice(0, ROWS_AT_ONCE).combine_chunks()
                rest, yielded = rest.slice(ROWS_AT_ONCE), True
    if rest.num_rows or not yielded:
        yield rest.combine_chunks()
