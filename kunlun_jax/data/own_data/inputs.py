"""The files of your own tables: found, named and hashed."""

import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator

from kunlun_jax.data.own_data.formats import EXPECTED, format_of
from kunlun_jax.data.own_data.messages import clipped, names_shown, path_shown, value_shown
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, TableSchema
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.files import file_sha256

# The folder of rows that Spark and Hadoop write before they are the table's; its own ones again.
UNFINISHED = "_temporary"


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
            impressions: A file, a folder, or a pattern; None, where only events are read.
            events: "STREAM=FILES" for every stream; with only one stream, "FILES" will do.

        Raises:
            SchemaError: On an unknown stream, one without files, or files that are not there.
        """
        names = [table.name for table in schema.streams]
        found = {} if impressions is None else {IMPRESSIONS: impressions}
        for value in events:
            name, files = _stream_of(value, names)
            if name in found or not files:
                raise SchemaError(
                    f"--events: expected STREAM=FILES once for each of {names_shown(names)}, got "
                    f"{value_shown(value)}"
                )
            found[name] = files
        for name in dict.fromkeys([*found, *names]):
            if not found.get(name):
                raise SchemaError(f"{name}: expected files, got none")
        return cls({name: find_files(files) for name, files in found.items()})

    def check_exist(self, schema: TableSchema) -> None:
        """Check that every table of the schema has files.

        Raises:
            SchemaError: If one has none.
        """
        for name in (IMPRESSIONS, *(table.name for table in schema.streams)):
            if not self.files.get(name):
                raise SchemaError(f"{name}: expected files, got none")

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every file by table and path."""
        paths = {
            table: dict(zip(self.names(table), files, strict=True))
            for table, files in self.files.items()
        }
        return {name: file_sha256(path) for found in paths.values() for name, path in found.items()}

    def names(self, table: str) -> list[str]:
        """Return what the files of a table are called in the data set: the table and the path.

        The path begins where those of the table part, so that it does not change with their place.
        """
        paths = [path.absolute() for path in self.files[table]]
        common = os.path.commonpath([path.parent for path in paths])
        return [f"{table}/{path.relative_to(common).as_posix()}" for path in paths]

    def place(self, table: str) -> str:
        """Return what to call a table: its file, or its name where there are several."""
        files = self.files[table]
        return str(files[0]) if len(files) == 1 else table

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for paths in self.files.values() for path in paths)


def _stream_of(value: str, names: list[str]) -> tuple[str, str]:
    """Return stream and files; no files where no stream is meant."""
    named = [name for name in names if value.startswith(f"{name}=")]
    name = max(named, key=len, default=names[0])
    files = value.removeprefix(f"{name}=") if named else ""
    # With one stream the files will do, and a folder may be called like "view=1".
    alone = not named or (os.path.lexists(value) and not os.path.lexists(files))
    return name, value if alone and len(names) == 1 else files


def find_files(pattern: str) -> tuple[pathlib.Path, ...]:
    """Return the files of a path, a folder or a pattern, sorted.

    A path that is there is taken as it is, whatever characters it has. In a pattern `*`, `?` and
    `**` have their meaning, and nothing else. A folder stands for every file in it and below it.

    Raises:
        SchemaError: If there is none, or one cannot be read: it is neither CSV, TSV nor Parquet, or
            its path is not UTF-8, or it is there twice, by a link.
    """
    path = pathlib.Path(pattern)
    if os.path.lexists(path):
        found = [path]
    else:
        literally = pattern.replace("[", "[[]") if "*" in pattern or "?" in pattern else ""
        matches = glob.glob(literally, recursive=True, include_hidden=True)
        found = [pathlib.Path(match) for match in matches]
        found = [match for match in found if not _holds_no_rows(match)]
    # Of "**" both a folder and what is in it are matches.
    files = sorted({file for match in found for file in _files_of(match, frozenset())})
    if not files:
        raise SchemaError(f"{path_shown(pattern)}: expected files of {EXPECTED}, found none")
    for file in files:
        _check_file(file, files[0])
    _refuse_links(files)
    return tuple(files)


def _files_of(path: pathlib.Path, above: frozenset[tuple[int, int]]) -> Iterator[pathlib.Path]:
    """Yield a file, or the files of a folder and of those in it."""
    if not path.is_dir():
        yield path
        return
    place = _place_of(path)
    if place in above:
        raise SchemaError(f"{path_shown(path)}: expected a folder, got a link to one above it")
    for inside in path.iterdir():
        if _holds_no_rows(inside):
            continue
        if inside.name.startswith("."):
            raise SchemaError(
                f"{path_shown(inside)}: expected no hidden file in a folder of tables, got this one"
            )
        if inside.name == UNFINISHED:
            raise SchemaError(
                f"{path_shown(inside)}: expected a finished table, got what Spark or Hadoop has "
                "not finished writing"
            )
        yield from _files_of(inside, above | {place})


def _holds_no_rows(path: pathlib.Path) -> bool:
    """Whether a file is one that Spark, Hadoop or macOS keep beside those of a table."""
    sums = path.name.startswith(".") and path.name.endswith(".crc")
    return sums or path.name in ("_SUCCESS", "_metadata", "_common_metadata", ".DS_Store")


def _check_file(path: pathlib.Path, first: pathlib.Path) -> None:
    refuse_bytes(path)
    kind, wanted = format_of(path), format_of(first)
    if kind is None or not path.is_file():
        got = "a file of another name" if path.is_file() else "no file"
        raise SchemaError(clipped(f"{path_shown(path)}: expected {EXPECTED}, got {got}"))
    if wanted is not None and kind.is_parquet != wanted.is_parquet:
        raise SchemaError(
            clipped(f"{path_shown(path)}: expected either text or Parquet, as {path_shown(first)}")
        )


def _refuse_links(files: list[pathlib.Path]) -> None:
    """Refuse a file that is there under two names: its rows would count twice."""
    known: dict[tuple[int, int], pathlib.Path] = {}
    for path in files:
        other = known.setdefault(_place_of(path), path)
        if other is not path:
            raise SchemaError(
                clipped(
                    f"{path_shown(path)}: expected each file once, got that of {path_shown(other)}"
                )
            )


def _place_of(path: pathlib.Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def refuse_bytes(path: pathlib.Path) -> None:
    """Refuse a path that is not text.

    Raises:
        SchemaError: If it is not.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise SchemaError(
            f"{path_shown(path)}: expected a path in UTF-8, got other bytes"
        ) from error
