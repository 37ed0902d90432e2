"""The ids of categorical columns: how they are numbered, and the files that say so."""

import pathlib
from collections.abc import Iterable

import numpy as np
import pyarrow.parquet as pq

from kunlun_jax.data.own_data import columns
from kunlun_jax.data.own_data.engine import rewrite
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Built, Hashed, TableSchema
from kunlun_jax.data.schema import EventId, SchemaError, SparseFeature
from kunlun_jax.files import file_sha256

FOLDER = "vocabularies"


def id_columns(schema: TableSchema) -> list[tuple[str, str, SparseFeature | EventId]]:
    """Return (table, column, feature) for every column of ids, by the names of `Reading`."""
    context = [(IMPRESSIONS, f"s{i}", f) for i, f in enumerate(schema.sparse_features)]
    events = [(t.name, f"s{i}", f) for t in schema.streams for i, f in enumerate(t.stream.ids)]
    return [*context, *events]


def vocabulary_file(number: int) -> str:
    """Return the name, in the data set, of the file of a vocabulary that is built."""
    return f"{FOLDER}/{number:03d}.parquet"


def values_in_order(seen: str, kind: Built, known: str | None) -> str:
    """Return a query for the values of a vocabulary and their counts, in the order of their ids.

    Args:
        seen: Query of the values that training sees, one per row.
        kind: The vocabulary.
        known: The file of the values that have ids already, as SQL; they keep these, seen or not.
            None: there are none.
    """
    counted = (
        f"SELECT value, count(*) AS count FROM ({seen}) WHERE value IS NOT NULL GROUP BY value"
    )
    if known is None:
        return f"SELECT * FROM ({counted}) WHERE count >= {kind.min_count} ORDER BY value"
    return (
        "SELECT coalesce(k.value, c.value) AS value, coalesce(c.count, 0) AS count "
        f"FROM read_parquet({known}, hive_partitioning=false) AS k "
        f"FULL JOIN ({counted}) AS c ON k.value = c.value "
        f"WHERE k.id IS NOT NULL OR c.count >= {kind.min_count} ORDER BY k.id NULLS LAST, value"
    )


def write_vocabulary(sources: Iterable[pathlib.Path], place: pathlib.Path, number: int) -> None:
    """Number values 1, 2, ... in the order in which they come, and write value, id, count.

    Args:
        sources: Parquet files of values and their counts; removed.
        place: Directory of the build.
        number: Of the vocabulary.
    """
    rewrite(
        list(sources),
        place / vocabulary_file(number),
        lambda first, rows: {
            "value": rows.column(0),
            "id": np.arange(first + 1, first + 1 + rows.num_rows),
            "count": rows.column(1),
        },
    )


def describe_vocabulary(place: pathlib.Path, number: int) -> tuple[int, dict[str, str | int]]:
    """Return how many ids a vocabulary has that was written, and what the manifest says of it."""
    file = vocabulary_file(number)
    path = place / file
    entry = {"name": file, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return pq.read_metadata(path).num_rows, entry


def no_values(name: str, kind: Built) -> SchemaError:
    """Return the error of a vocabulary without a value."""
    return SchemaError(
        f"vocabulary {name!r}: expected values that training sees at least {kind.min_count} times, "
        "got none"
    )


def each_value(alias: str, feature: SparseFeature | EventId) -> str:
    """Return SQL for the values of a column, one per row."""
    if columns.is_list(feature):
        return f"unnest(string_split({alias}, {columns.UNIT_SEPARATOR}))"
    return alias


def hashed_sql(value: str, kind: Built | Hashed) -> str:
    """Return SQL for the id of a value (see `hashing.py`), a pair as one number."""
    assert isinstance(kind, Hashed)
    first = f"CAST(1 + md5_number_lower({value}) % {kind.num_ids} AS BIGINT)"
    if kind.num_hashes == 1:
        return f"CAST({first} AS INTEGER)"
    second = f"CAST(1 + md5_number_upper({value}) % {kind.num_ids} AS BIGINT)"
    return f"({first} + ({second} << 32))"
