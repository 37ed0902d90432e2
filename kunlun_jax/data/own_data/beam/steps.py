"""What happens to the rows of a range of users or of a shard, as Arrow tables."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kunlun_jax.data.building.shards import shard_of_users
from kunlun_jax.data.hashing import hashed_ids
from kunlun_jax.data.own_data import columns
from kunlun_jax.data.own_data.beam.numbering import Key, look_up, parts_by, range_of
from kunlun_jax.data.own_data.shards import Rows
from kunlun_jax.data.own_data.splits import Bounds, uniform_of_users
from kunlun_jax.data.own_data.table_schema import (
    IMPRESSIONS,
    Built,
    Hashed,
    TableSchema,
)
from kunlun_jax.data.own_data.vocabularies import id_columns
from kunlun_jax.data.schema import OOV_ID
from kunlun_jax.data.tables import SPLITS

SEPARATOR = "\x1f"  # columns.UNIT_SEPARATOR
# The rows of a shard, or a part of them, by table; tables without rows may be missing.
Tables = dict[str, pa.Table]


def number_users(
    parts: Iterable[tuple[str, pa.Table]], users: pa.Table, schema: TableSchema, num_shards: int
) -> Iterator[tuple[int, tuple[str, pa.Table]]]:
    """Put the numbers of users in place of their names; others' events are left out.

    Args:
        parts: Of a range of users, (table, typed rows).
        users: `value` and `number` of these users.
        schema: What the columns mean.
        num_shards: Shards.

    Yields:
        (shard, (table, rows with `number` and `unit`)).
    """
    for name, rows in joined(parts).items():
        number = look_up(rows["key"].combine_chunks(), users)
        known = number.is_valid()
        number = number.filter(known).to_numpy()
        rows = rows.filter(known).drop_columns(["key"])
        rows = rows.append_column("number", pa.array(number))
        rows = rows.append_column("unit", pa.array(uniform_of_users(schema, number)))
        for shard, part in parts_by(shard_of_users(number, num_shards), rows):
            yield shard, (name, part)


def joined(parts: Iterable[tuple[str, pa.Table]]) -> Tables:
    """Return the rows of every table as one table."""
    tables: dict[str, list[pa.Table]] = {}
    for name, rows in parts:
        tables.setdefault(name, []).append(rows)
    return {name: pa.concat_tables(found).combine_chunks() for name, found in tables.items()}


def split_of(rows: pa.Table, bounds: Bounds) -> np.ndarray:
    """Return the split of every row, int32 [n]."""
    return bounds.number(rows[bounds.by].to_numpy())


def count_rows(rows: pa.Table | None, bounds: Bounds) -> list[int]:
    """Return the number of examples of every split."""
    if rows is None:
        return [0] * len(SPLITS)
    return np.bincount(split_of(rows, bounds), minlength=len(SPLITS)).tolist()


def values_of(
    tables: Tables, schema: TableSchema, *, training_of: Bounds | None = None
) -> dict[str, pa.Table]:
    """Count the values of every vocabulary that is built.

    Args:
        tables: Rows.
        schema: What the columns mean.
        training_of: If given, only what training sees counts.

    Returns:
        By vocabulary, table of `value` and `count`; not of those without values.
    """
    found: dict[str, list[pa.Array]] = {}
    for name, alias, feature in id_columns(schema):
        kind = schema.vocabulary(feature.vocabulary)
        if name in tables and not isinstance(kind, Hashed):
            rows = tables[name]
            if training_of is not None:
                rows = rows.filter(pa.array(split_of(rows, training_of) == 0))
            column = rows[alias].combine_chunks()
            if columns.is_list(feature):
                column = values_in_cells(column).values
            found.setdefault(feature.vocabulary, []).append(column.drop_null())
    counts = {}
    for name, parts in found.items():
        counted = pa.chunked_array(parts).value_counts()
        if len(counted):
            counts[name] = pa.table(
                {"value": counted.field("values"), "count": counted.field("counts")}
            )
    return counts


def ask_for_ids(
    pair: tuple[int, Tables], schema: TableSchema, cuts: dict[str, list[str]]
) -> Iterator[tuple[Key, tuple[int, pa.Array]]]:
    """Yield ((vocabulary, range), (shard, values)) for all values that a shard has."""
    shard, tables = pair
    for name, counts in values_of(tables, schema).items():
        if name in cuts:
            values = counts["value"].combine_chunks()
            for place, part in parts_by(range_of(values, cuts[name]), counts):
                yield (name, place), (shard, part["value"].combine_chunks())


def shard_rows(
    tables: Tables, ids: dict[str, pa.Table], schema: TableSchema, bounds: Bounds
) -> list[Rows]:
    """Return the rows of a shard with ids in place of values.

    Args:
        tables: Rows.
        ids: By vocabulary that is built, table of `value` and `number` of those that are known.
        schema: What the columns mean.
        bounds: Where validation and test begin.
    """
    encoded = dict(tables)
    for name, alias, feature in id_columns(schema):
        if name in encoded:
            rows, known = encoded[name], ids.get(feature.vocabulary)
            column, kind = rows[alias].combine_chunks(), schema.vocabulary(feature.vocabulary)
            if columns.is_list(feature):
                cells = values_in_cells(column)
                numbers = _ids(cells.values, kind, known)
                column = pa.ListArray.from_arrays(cells.offsets, numbers)
            else:
                column = _ids(column, kind, known)
            encoded[name] = rows.set_column(rows.schema.get_field_index(alias), alias, column)
    if IMPRESSIONS in encoded:
        rows = encoded[IMPRESSIONS]
        encoded[IMPRESSIONS] = rows.append_column("split", pa.array(split_of(rows, bounds)))
    names = [IMPRESSIONS, *(events.name for events in schema.streams)]
    return [Rows(encoded.get(name)) for name in names]


def values_in_cells(cells: pa.Array) -> pa.ListArray:
    """Return the values of cells with several; a cell that is null has none."""
    return pc.call_function("split_pattern", [cells], pc.SplitPatternOptions(SEPARATOR))


def _ids(values: pa.Array, kind: Built | Hashed, known: pa.Table | None) -> pa.Array:
    """Return the ids of values; null where the value is."""
    if isinstance(kind, Hashed):
        distinct = values.dictionary_encode()
        ids = hashed_ids(distinct.dictionary.to_pylist(), kind.vocabulary("hashed"))
        return pa.array(ids).take(distinct.indices)
    ids = np.full(len(values), OOV_ID, np.int32)
    if known is not None:
        numbers = look_up(values, known)
        ids = np.where(numbers.is_valid(), numbers.fill_null(0).to_numpy() + 1, OOV_ID)
    return pa.array(ids, pa.int32(), mask=~np.asarray(values.is_valid()))
