"""The files of your own tables: found, hashed, and their columns named."""

import contextlib
import csv
import dataclasses
import pathlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.building import file_sha256
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, TableSchema
from kunlun_jax.data.schema import SchemaError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
SUFFIXES = (*SEPARATORS, *PARQUET)
BYTES_AT_ONCE = 2**20


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Files by table.

    Attributes:
        files: By "impressions" and the names of the streams, the files of the table, sorted.
    """

    files: dict[str, tuple[pathlib.Path, ...]]

    @classmethod
    def parse(cls, schema: TableSchema, impressions: str | None, events: list[str]) -> "Inputs":
        """Read what the command line says.

        Args:
            schema: The schema.
            impressions: A file, a folder, or a pattern.
            events: "STREAM=FILES" for every stream; with only one stream, "FILES" will do.

        Raises:
            SchemaError: On an unknown stream, one without files, or files that are not there.
        """
        names = [table.name for table in schema.streams]
        found = {IMPRESSIONS: impressions}
        for value in events:
            name, equals, files = value.partition("=")
            if not equals and len(names) == 1:
                name, files = names[0], value
            if name not in names or name in found or not files:
                raise SchemaError(
                    f"--events: expected STREAM=FILES once for each of {names}, got {value!r}"
                )
            found[name] = files
        for name in (IMPRESSIONS, *names):
            if not found.get(name):
                raise SchemaError(f"{name}: expected files, got none")
        return cls({name: find_files(str(files)) for name, files in found.items()})

    def check_exist(self, schema: TableSchema) -> None:
        """Check that every table of the schema has files.

        Raises:
            SchemaError: If one has none.
        """
        for name in (IMPRESSIONS, *(table.name for table in schema.streams)):
            if not self.files.get(name):
                raise SchemaError(f"{name}: expected files, got none")

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file by table and name."""
        return {
            f"{table}/{path.name}": file_sha256(path)
            for table, paths in self.files.items()
            for path in paths
        }

    def place(self, table: str) -> str:
        """Return what to call a table: its file, or its name where there are several."""
        files = self.files[table]
        return str(files[0]) if len(files) == 1 else table

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for paths in self.files.values() for path in paths)


def find_files(pattern: str) -> tuple[pathlib.Path, ...]:
    """Return the files of a path, a folder or a pattern, sorted.

    Raises:
        SchemaError: If there is none, or one is neither CSV, TSV nor Parquet.
    """
    path = pathlib.Path(pattern)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix in SUFFIXES]
    elif path.exists():
        found = [path]
    else:
        root = pathlib.Path(path.anchor) if path.is_absolute() else pathlib.Path()
        relative = str(path.relative_to(path.anchor))
        found = list(root.glob(relative)) if "*" in pattern or "?" in pattern else []
    if not found:
        raise SchemaError(f"{pattern}: expected files of {SUFFIXES}, found none")
    kinds = {p.suffix in PARQUET for p in found}
    for p in found:
        if p.suffix not in SUFFIXES or len(kinds) > 1:
            raise SchemaError(f"{p}: expected either CSV ({tuple(SEPARATORS)}) or Parquet files")
    return tuple(sorted(found))


def column_names(path: pathlib.Path) -> list[str]:
    """Return the columns of a file.

    Raises:
        SchemaError: If the file is empty or not what its name says.
    """
    try:
        if path.suffix in PARQUET:
            with _as_schema_error(path):
                return pq.read_schema(path).names
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file, delimiter=SEPARATORS[path.suffix]), None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SchemaError(f"{path}: not a {path.suffix[1:]} file: {error}") from error
    if header is None:
        raise SchemaError(f"{path}: expected a header and rows, got an empty file")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SchemaError(f"{path}: column {twice[0]!r} occurs more than once")
    return header


def verify_pages(path: pathlib.Path) -> None:
    """Read a Parquet file once, and compare its pages with their checksums where it has some.

    DuckDB does not: a flipped bit in a number would be a number.

    Raises:
        SchemaError: If the file is damaged.
    """
    with _as_schema_error(path):
        options = {"page_checksum_verification": True, "buffer_size": BYTES_AT_ONCE}
        with pq.ParquetFile(path, **options) as file:
            for _ in file.iter_batches():
                pass


@contextlib.contextmanager
def _as_schema_error(path: pathlib.Path) -> Iterator[None]:
    """Name the file in Arrow's errors, which are OSErrors without a number where it is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no access or no device: nothing is known about the content
        text = " ".join(str(error).split())
        raise SchemaError(f"{path}: not a parquet file, or a damaged one: {text}") from error
