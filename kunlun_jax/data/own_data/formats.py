"""What the name of a file says of its content."""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import pyarrow as pa

from kunlun_jax.data.own_data.messages import clipped
from kunlun_jax.data.schema import SchemaError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
COMPRESSIONS = {"": "", ".gz": "gzip", ".zst": "zstd"}
PARQUET = (".parquet", ".pq")
EXPECTED = "CSV or TSV (.csv, .tsv; also .gz, .zst) or Parquet (.parquet, .pq)"
BYTES_AT_ONCE = 2**20


@dataclasses.dataclass(frozen=True)
class Format:
    """How a file is read.

    Attributes:
        separator: Between the cells of a line; empty: the file is Parquet.
        compression: "gzip", "zstd" or, without one, empty.
    """

    separator: str = ""
    compression: str = ""

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet, which is never compressed as a whole."""
        return not self.separator


def format_of(path: pathlib.Path) -> Format | None:
    """Return the format that a file's name ends in, in upper or lower case; None of others."""
    name = path.name.lower()
    if name.endswith(PARQUET):
        return Format()
    for suffix, separator in SEPARATORS.items():
        for ending, compression in COMPRESSIONS.items():
            if name.endswith(suffix + ending):
                return Format(separator, compression)
    return None


def known_format(path: pathlib.Path) -> Format:
    """Return the format of a file.

    Raises:
        SchemaError: If its name has another ending.
    """
    found = format_of(path)
    if found is None:
        raise SchemaError(f"expected {EXPECTED}, got a file of another name")
    return found


@contextlib.contextmanager
def open_bytes(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Open a text file, decompressed.

    Raises:
        SchemaError: If the file is not compressed as its name says, or is cut off.
    """
    compression = known_format(path).compression
    if not compression:
        with path.open("rb") as file:
            yield file
        return
    try:
        with pa.input_stream(
            str(path.absolute()), compression=compression, buffer_size=BYTES_AT_ONCE
        ) as file:
            yield io.BufferedReader(cast(io.RawIOBase, file), BYTES_AT_ONCE)
    except OSError as error:
        if error.errno is not None:
            raise  # no access or no device: nothing is known about the content
        said = clipped(str(error), 100)
        raise SchemaError(f"not a {compression} file, or a damaged one: {said}") from error
