"""Parquet files, read a few rows at a time."""

import pathlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 65_536
_BYTES_AT_ONCE = 2**20


def row_batches(
    path: pathlib.Path,
    rows: int = ROWS_AT_ONCE,
    *,
    columns: Sequence[str] | None = None,
    verify: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in order; memory holds some pages, however large the file is.

    PyArrow by default buffers ahead (`pre_buffer`), and keeps what it has read until the file is
    closed: in the end, all of it.

    Args:
        path: The file.
        rows: The most rows of a batch.
        columns: Their names; None reads all.
        verify: Whether pages are compared with their checksums, where the file has some.

    Raises:
        OSError: If the file cannot be read, or is damaged.
        pyarrow.ArrowException: If it is damaged, or not a Parquet file.
    """
    # Arrow takes a path that is not absolute for a URI, or `~` for a home.
    with pq.ParquetFile(
        path.absolute(),
        pre_buffer=False,
        buffer_size=_BYTES_AT_ONCE,
        page_checksum_verification=verify,
    ) as file:
        yield from file.iter_batches(rows, columns=columns)
