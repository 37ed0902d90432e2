"""The columns of a file, looked at before any engine sees them."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.own_data.formats import known_format, open_bytes
from kunlun_jax.data.own_data.messages import clipped, named, value_shown
from kunlun_jax.data.parquet import row_batches
from kunlun_jax.data.schema import SchemaError

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
LONGEST_LINE = 2**20


def column_names(path: pathlib.Path) -> list[str]:
    """Return the columns of a file; "" is one without a name, such as the index that pandas writes.

    Raises:
        SchemaError: If the file is empty or not what its name says, or if two columns cannot be
            told from each other; names the file.
    """
    with named(path):
        kind = known_format(path)
        if kind.is_parquet:
            with parquet_errors():
                # Arrow takes a path that is not absolute for a URI, or `~` for a home.
                names = pq.read_schema(path.absolute()).names
        else:
            with open_bytes(path) as file:
                names = _header(file, kind.separator)
        _refuse_doubles(names)
    return names


@contextlib.contextmanager
def parquet_errors() -> Iterator[None]:
    """Put Arrow's errors in words; they are OSErrors without a number where a file is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no access or no device: nothing is known about the content
        said = clipped(str(error), 100)
        raise SchemaError(f"not a parquet file, or a damaged one: {said}") from error


def _header(file: BinaryIO, separator: str) -> list[str]:
    start = file.read(LONGEST_LINE)
    if not start:
        raise SchemaError("expected a header and rows, got an empty file")
    if start.startswith(UTF16_MARKS):
        raise SchemaError("line 1: expected text in UTF-8, got UTF-16; convert the file first")
    whole = len(start) < LONGEST_LINE
    if not whole and b"\n" not in start and b"\r" not in start:
        raise SchemaError(f"line 1: expected a header of less than {LONGEST_LINE} bytes")
    # A character may be cut in two at the end of what was read.
    try:
        text = start.decode("utf-8-sig") if whole else start[:-3].decode("utf-8-sig", "replace")
        csv.field_size_limit(LONGEST_LINE)
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except UnicodeDecodeError as error:
        line = 1 + start[: error.start].count(b"\n")
        byte = f"byte 0x{start[error.start]:02x}"
        raise SchemaError(f"line {line}: expected text in UTF-8, got {byte}") from error
    except csv.Error as error:
        raise SchemaError(f"line 1: expected names of columns, got {error}") from error
    if not any(name.strip() for name in names):
        raise SchemaError("line 1: expected a header, got a line without a name")
    if "\0" in "".join(names):
        raise SchemaError("line 1: expected text in UTF-8, got a byte of zero")
    return names


def duration_types(path: pathlib.Path) -> dict[int, str]:
    """Return the SQL types of the columns of a Parquet file that hold durations, by their places.

    Parquet has integers for these, and DuckDB reads it so: an interval in whatever unit would be an
    id, or a time.
    """
    found = {}
    for place, kind in enumerate(pq.read_schema(path.absolute()).types):
        brackets = ""
        while isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
            kind, brackets = kind.value_type, f"{brackets}[]"
        if pa.types.is_duration(kind):
            found[place] = f"INTERVAL{brackets}"
    return found


def _refuse_doubles(names: list[str]) -> None:
    """Refuse names that are equal but for case: SQL does not tell them from each other."""
    first: dict[str, str] = {}
    for name in filter(None, names):
        other = first.get(name.lower())
        if other is None:
            first[name.lower()] = name
            continue
        if other == name:
            raise SchemaError(f"column {value_shown(name)} occurs more than once")
        raise SchemaError(
            f"columns {value_shown(other)} and {value_shown(name)}: expected names that differ in "
            "more than upper and lower case"
        )


def verify_pages(path: pathlib.Path) -> None:
    """Read a Parquet file once, and compare its pages with their checksums where it has some.

    DuckDB does not: a flipped bit in a number would be a number.

    Raises:
        SchemaError: If the file is damaged.
    """
    with named(path), parquet_errors():
        for _ in row_batches(path, verify=True):
            pass
