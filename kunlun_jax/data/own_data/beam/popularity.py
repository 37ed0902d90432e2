"""Popularity by Beam: events and offers are brought together by value, and counts to their shards.

A worker holds all moments of the values that a hash puts together, as many such sets as shards.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports]
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kunlun_jax.data.counting import popularity_columns
from kunlun_jax.data.own_data.beam.numbering import parts_by
from kunlun_jax.data.own_data.beam.steps import Tables
from kunlun_jax.data.own_data.popularity import PopularityGroup
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS

# Of a group, the values with one hash.
Place = tuple[int, int]
# When values happened or were offered.
MOMENTS = pa.schema({"value": pa.string(), "time": pa.int64()})


def count_popularity(rows: Any, shards: Any, groups: list[PopularityGroup], num_parts: int) -> Any:
    """Return (shard, (group, table of `value`, `time` and the group's columns)).

    Args:
        rows: A collection of (table, typed rows), of all users.
        shards: A collection of (shard, rows by table).
        groups: The groups.
        num_parts: Parts that the values of a group are cut into.
    """
    events = rows | "events by value" >> beam.FlatMap(_events, groups, num_parts)
    offers = shards | "offers by value" >> beam.FlatMap(_offers, groups, num_parts)
    return (
        {"events": events, "offers": offers}
        | "events and offers" >> beam.CoGroupByKey()
        | "count events" >> beam.FlatMap(_count, groups)
    )


def _events(
    pair: tuple[str, pa.Table], groups: list[PopularityGroup], num_parts: int
) -> Iterator[tuple[Place, pa.Table]]:
    name, rows = pair
    for group in groups:
        if group.stream == name:
            for part, moments in _moments(rows, group.events, num_parts):
                yield (group.number, part), moments


def _offers(
    pair: tuple[int, Tables], groups: list[PopularityGroup], num_parts: int
) -> Iterator[tuple[Place, tuple[int, pa.Table]]]:
    shard, tables = pair
    for group in groups if IMPRESSIONS in tables else ():
        for part, moments in _moments(tables[IMPRESSIONS], group.offered, num_parts):
            yield (group.number, part), (shard, moments.group_by(["value", "time"]).aggregate([]))


def _moments(rows: pa.Table, column: str, num_parts: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield the moments of the values of a column, those of one hash at a time."""
    moments = rows.select([column, "time"]).rename_columns(["value", "time"])
    moments = moments.filter(pc.field("value").is_valid())
    values = moments["value"].combine_chunks().dictionary_encode()
    hashes = [zlib.crc32(value.encode()) for value in values.dictionary.to_pylist()]
    return parts_by((np.array(hashes, np.int64) % num_parts)[values.indices.to_numpy()], moments)


def _count(
    pair: tuple[Place, dict[str, Iterable[Any]]], groups: list[PopularityGroup]
) -> Iterator[tuple[int, tuple[int, pa.Table]]]:
    """Yield, to every shard that asks, how many events there were before each moment."""
    (number, _), found = pair
    group = groups[number]
    events = pa.concat_tables([MOMENTS.empty_table(), *found["events"]])
    known = events["value"].combine_chunks().dictionary_encode()
    options = pc.SetLookupOptions(value_set=known.dictionary)
    for shard, offers in found["offers"]:
        places = pc.call_function("index_in", [offers["value"].combine_chunks()], options)
        keys = {"value": (known.indices.to_numpy(), places.fill_null(-1).to_numpy())}
        times = events["time"].to_numpy(), keys, offers["time"].to_numpy()
        for name, column in zip(
            group.names, popularity_columns(group.declaration, *times).T, strict=True
        ):
            offers = offers.append_column(name, pa.array(column))
        yield shard, (number, offers)


def join_popularity(
    rows: pa.Table, found: Iterable[tuple[int, pa.Table]], groups: list[PopularityGroup]
) -> pa.Table:
    """Return impressions, in whatever order, with the columns of popularity.

    Args:
        rows: Impressions of a shard, with values.
        found: What `count_popularity` has for the shard.
        groups: The groups.
    """
    counted = list(found)
    for group in groups:
        counts = [table for number, table in counted if number == group.number]
        if not counts:  # all offers of the shard are without a value
            fields = [pa.field(name, pa.float32()) for name in group.names]
            counts = [pa.schema([*MOMENTS, *fields]).empty_table()]
        keys = [group.offered, "time"], ["value", "time"]
        rows = rows.join(pa.concat_tables(counts), *keys, "left outer")
        for name in group.names:
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, rows[name].fill_null(0.0))
    return rows.combine_chunks()
