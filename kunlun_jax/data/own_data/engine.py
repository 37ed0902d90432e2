"""DuckDB, which joins and sorts tables larger than memory."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.own_data.columns import Check, quoted
from kunlun_jax.data.own_data.inputs import PARQUET, SEPARATORS, column_names, verify_pages
from kunlun_jax.data.own_data.texts import literal
from kunlun_jax.data.schema import SchemaError

ROWS_SHOWN = 5
ROWS_AT_ONCE = 65_536


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
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{int(memory_gb * 1000)}MB",
                "threads": threads,
                "temp_directory": str(spilled),
            }
        )
        self.execute("SET TimeZone = 'UTC'")
        # Whatever stands to the right of a JOIN is the smaller one, and is held in memory. The
        # optimizer knows no size of a CSV file, and would hold that.
        self.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

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
            raise MemoryError(f"DuckDB: {_brief(error)}; give a larger --memory_gb") from error
        except (errors.IOException, errors.HTTPException) as error:
            if "Parquet" in str(error) or "parquet" in str(error):
                raise SchemaError(_brief(error)) from error
            raise OSError(f"DuckDB: {_brief(error)}") from error
        except errors.Error as error:  # SQL that is none, or a file that is damaged
            raise SchemaError(_brief(error)) from error

    def copy(
        self, sql: str, path: pathlib.Path, *, in_order: bool = False, partition_by: str = ""
    ) -> None:
        """Write the rows of a query to Parquet, unless that has been done.

        Args:
            sql: The query.
            path: A file, or with `partition_by` a folder; it is there only when it is complete.
            in_order: Whether the order of the rows matters; it takes more memory.
            partition_by: A column; each of its values gets a folder.
        """
        if path.exists():
            return
        temporary = path.with_name(f"{path.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        options = f", PARTITION_BY ({partition_by})" if partition_by else ""
        self.execute(f"SET preserve_insertion_order = {str(in_order).lower()}")
        self.execute(f"COPY ({sql}) TO {literal(str(temporary))} (FORMAT parquet{options})")
        temporary.rename(path)


class Table:
    """The files of one input table.

    Attributes:
        types: SQL type by column.
    """

    def __init__(
        self, engine: Engine, name: str, files: tuple[pathlib.Path, ...], where: str
    ) -> None:
        """Look at the files; rows are not read.

        Raises:
            SchemaError: If one is empty, not what its name says, or has other columns than the
                first one; or if the condition is no SQL.
        """
        self._engine, self._name, self._files, self._where = engine, name, files, where
        self.types = self._types(files[0])
        for path in files[1:]:
            types = self._types(path)
            if list(types.items()) != list(self.types.items()):
                raise SchemaError(
                    f"{path}: expected columns as in {files[0]}, {self.types}, got {types}"
                )

    def _types(self, path: pathlib.Path) -> dict[str, str]:
        column_names(path)
        with named(path):
            rows = self._engine.execute(f"DESCRIBE SELECT * FROM {_read((path,))}")
        return {row[0]: row[1] for row in rows}

    def require(self, columns: list[str]) -> None:
        """Check that columns are there.

        Raises:
            SchemaError: If one is not.
        """
        for column in columns:
            if column not in self.types:
                raise SchemaError(
                    f"{self._files[0]}: expected a column {column!r}, got {list(self.types)}"
                )

    @property
    def place(self) -> str:
        """What to call the table in a message: its file, or its name where there are several."""
        return str(self._files[0]) if len(self._files) == 1 else self._name

    @property
    def sql(self) -> str:
        """The rows as a relation."""
        condition = f" WHERE {self._where}" if self._where else ""
        return f"(SELECT * FROM {_read(self._files)}{condition})"

    def check(self, checks: list[Check]) -> int:
        """Read all rows once and return their number.

        Raises:
            SchemaError: If a row is bad; names file, row, column and value.
        """
        for path in self._files:
            if path.suffix in PARQUET:
                verify_pages(path)
        counts = ", ".join(f"count_if({check.bad})" for check in checks)
        with named(self.place):
            total, *bad = self._engine.execute(f"SELECT count(*), {counts} FROM {self.sql}")[0]
        for check, count in zip(checks, bad, strict=True):
            if count:
                raise SchemaError(self._explain(check, count))
        return total

    def require_rows(self) -> None:
        """Check that there are rows.

        Raises:
            SchemaError: If there is none.
        """
        with named(self.place):
            if not self._engine.execute(f"SELECT 1 FROM {self.sql} LIMIT 1"):
                raise SchemaError("expected rows, got none")

    def _explain(self, check: Check, count: int) -> str:
        condition = f"({self._where}) AND" if self._where else ""
        for path in self._files:
            rows = self._engine.execute(
                f"SELECT row, {quoted(check.column)} FROM "
                f"(SELECT *, row_number() OVER () AS row FROM {_read((path,))}) "
                f"WHERE {condition} {check.bad} ORDER BY row LIMIT {ROWS_SHOWN}"
            )
            if rows:
                numbers = ", ".join(str(row) for row, _ in rows)
                return (
                    f"{path}: column {check.column!r}: expected {check.expected}, got "
                    f"{rows[0][1]!r} in row {rows[0][0]} (bad rows: {count}, first: {numbers}; "
                    "the first row of data is 1)"
                )
        raise AssertionError("a bad row has a file")


@contextlib.contextmanager
def named(place: pathlib.Path | str) -> Iterator[None]:
    """Put the file in front of what a SchemaError says about it."""
    try:
        yield
    except SchemaError as error:
        raise SchemaError(f"{place}: {error}") from error


def _read(files: tuple[pathlib.Path, ...]) -> str:
    names = ", ".join(literal(str(path)) for path in files)
    if files[0].suffix in PARQUET:
        return f"read_parquet([{names}])"
    # Nothing is guessed: every column is text, the dialect is fixed.
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in column_names(files[0]))
    separator = literal(SEPARATORS[files[0].suffix])
    return (
        f"read_csv([{names}], columns={{{columns}}}, auto_detect=false, header=true, "
        f"delim={separator}, quote='\"', escape='\"')"
    )


def _brief(error: Exception) -> str:
    """Return the part of a message that speaks of the data, on one line."""
    lines = str(error).splitlines()
    kept = []
    for line in lines:
        if not line.strip() or line.startswith(("Possible", "*", "  ")):
            break
        kept.append(line.strip())
    return " ".join(kept)


def rewrite(sources: list[pathlib.Path], target: pathlib.Path, columns_of: Any) -> None:
    """Write Parquet files anew as one, a few rows at a time, and remove the old ones.

    Args:
        sources: The files, at least one.
        target: The new file; its bytes depend on the rows alone.
        columns_of: Returns new columns, given the number of the first row and a table of rows.
    """
    temporary = target.with_name(f"{target.name}.part")
    writer, first = None, 0
    for rows in _equal_parts(sources):
        table = pa.table(columns_of(first, rows))
        writer = writer or pq.ParquetWriter(temporary, table.schema)
        writer.write_table(table)
        first += rows.num_rows
    assert writer is not None
    writer.close()
    temporary.rename(target)
    for source in sources:
        source.unlink()


def _equal_parts(sources: list[pathlib.Path]) -> Iterator[pa.Table]:
    """Yield ROWS_AT_ONCE rows, however the files divide them; if there is none, an empty table."""
    rest = pq.read_schema(sources[0]).empty_table()
    yielded = False
    for source in sources:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
                while rest.num_rows >= ROWS_AT_ONCE:
                    yield rest.slice(0, ROWS_AT_ONCE).combine_chunks()
                    rest, yielded = rest.slice(ROWS_AT_ONCE), True
    if rest.num_rows or not yielded:
        yield rest.combine_chunks()
