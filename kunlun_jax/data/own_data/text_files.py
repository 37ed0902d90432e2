"""CSV and TSV files: whether they are text, which line is none, and lines with one kind of end."""

import codecs
import csv
import io
import pathlib
from collections.abc import Iterator

from kunlun_jax.data.own_data.formats import BYTES_AT_ONCE, known_format, open_bytes
from kunlun_jax.data.own_data.messages import named, value_shown
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.files import part_of, settle

# A longer line is refused by DuckDB, which holds several of this length in memory.
LONGEST_LINE = 2_000_000
# What the csv module takes for a cell, so that it is the line that is found to be too long.
LONGEST_CELL = 2**31 - 1


def verify_text(path: pathlib.Path) -> bool:
    """Read a file once; return whether its lines all end alike, as DuckDB wants them.

    Raises:
        SchemaError: If it is not UTF-8, or not compressed as its name says; names file and line.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    feeds = returns = both = position = 0
    last = b""
    with named(path), open_bytes(path) as file:
        while chunk := file.read(BYTES_AT_ONCE):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                byte = f"byte 0x{error.object[error.start]:02x}"
                before = chunk[: max(error.start - (len(error.object) - len(chunk)), 0)]
                line = 1 + (feeds + before.count(b"\n") or returns + before.count(b"\r"))
                raise SchemaError(f"line {line}: expected text in UTF-8, got {byte}") from error
            feeds += chunk.count(b"\n")
            returns += chunk.count(b"\r")
            both += chunk.count(b"\r\n") + (last == b"\r" and chunk.startswith(b"\n"))
            position += len(chunk)
            last = chunk[-1:]
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise SchemaError("expected text in UTF-8, got a last character cut in two") from error
    return not returns or not feeds or feeds == returns == both


def write_plain(path: pathlib.Path, target: pathlib.Path) -> None:
    """Write a file anew, uncompressed, with lines that end alike; quoted ends are kept.

    Raises:
        SchemaError: If a line is not CSV, or has another number of cells; names file and line.
    """
    separator = known_format(path).separator
    special = (separator, '"', "\r", "\n")
    temporary = part_of(target)
    with named(path), temporary.open("w", encoding="utf-8", newline="") as file:
        for _, cells in _rows(path):
            quoted = (
                '"' + cell.replace('"', '""') + '"' if any(c in cell for c in special) else cell
                for cell in cells
            )
            file.write(separator.join(quoted) + "\n")
    settle(temporary, target)


def explain(path: pathlib.Path) -> None:
    """Find what is wrong with a file that DuckDB has refused.

    Raises:
        SchemaError: If a line is not CSV, has another number of cells than the header, or is too
            long; names line, expected and got.
    """
    for line, cells in _rows(path):
        size = sum(len(cell.encode()) for cell in cells) + len(cells)
        if size > LONGEST_LINE:
            longest = max(cells, key=len)
            raise SchemaError(
                f"line {line}: expected at most {LONGEST_LINE} bytes, got {size}, as of "
                f"{value_shown(longest)}"
            )


def _rows(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, cells) for the header and every row that is not blank."""
    csv.field_size_limit(LONGEST_CELL)
    with open_bytes(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=known_format(path).separator, strict=True)
        width = line = 0
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise SchemaError(
                    f"line {line}: expected quotes that close, got {error}"
                ) from error
            if cells is None:
                return
            if not cells:
                continue
            width = width or len(cells)
            if len(cells) == width + 1 and not cells[-1]:
                cells.pop()  # every line ends in a separator
            if len(cells) != width:
                raise SchemaError(f"line {line}: expected {width} columns, got {len(cells)}")
            yield line, cells
