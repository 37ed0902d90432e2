"""What is told of hashed values: how many look alike, are spelled alike, or look like nothing."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports]
import numpy as np
import pyarrow as pa

from kunlun_jax.data.hashing import hashed_ids, separate
from kunlun_jax.data.own_data import columns
from kunlun_jax.data.own_data.beam.steps import Tables, values_in_cells
from kunlun_jax.data.own_data.collisions import Counts
from kunlun_jax.data.own_data.table_schema import Hashed, TableSchema
from kunlun_jax.data.own_data.texts import looks_like_nothing, spelling
from kunlun_jax.data.own_data.vocabularies import id_columns


def count_values(shards: Any, schema: TableSchema) -> Any:
    """Return (vocabulary, Counts) for those that are hashed.

    Args:
        shards: A collection of (shard, rows by table).
        schema: What the columns mean.
    """
    values = (
        shards
        | "hashed values" >> beam.FlatMap(lambda pair: hashed_values(pair[1], schema))
        | "different ones" >> beam.Distinct()
    )
    looks = (
        values
        | "looks" >> beam.Map(look_of, schema)
        | "values a look" >> beam.CombinePerKey(sum)
        | "of a vocabulary" >> beam.MapTuple(lambda key, n: (key[0], (n, n if n > 1 else 0)))
        | "in total" >> beam.CombinePerKey(_sum_of_pairs)
    )
    spelled = count_spellings(values, "spellings of values")
    nothing = values | "doubtful" >> beam.Filter(is_doubtful)
    return (
        {"looks": looks, "spelled": spelled, "nothing": nothing}
        | "what is said of values" >> beam.CoGroupByKey()
        | "counts" >> beam.MapTuple(_counts)
    )


def count_spellings(values: Any, label: str) -> Any:
    """Return (name, (values spelled twice, (spelling, least, largest))) of different values."""
    return (
        values
        | f"{label}: of each" >> beam.Map(spelling_of)
        | f"{label}: values a spelling" >> beam.CombinePerKey(merge_spelled)
        | f"{label}: several" >> beam.Filter(lambda pair: pair[1][0] > 1)
        | f"{label}: by name" >> beam.Map(_by_name)
        | f"{label}: spelled in total" >> beam.CombinePerKey(_count_spelled)
    )


def _by_name(
    pair: tuple[tuple[str, str], tuple[int, str, str]],
) -> tuple[str, tuple[int, tuple[str, str, str]]]:
    """Return (vocabulary, (values, (spelling, least value, largest value)))."""
    (name, spelt), (number, low, high) = pair
    return name, (number, (spelt, low, high))


def _count_spelled(
    found: Iterable[tuple[int, tuple[str, str, str]]],
) -> tuple[int, tuple[str, str, str]]:
    """Return how many values are spelled twice, and the first spelling with two of its values."""
    numbers, firsts = zip(*found, strict=True)
    return sum(numbers), min(firsts)


def _counts(name: str, found: dict[str, Iterable[Any]]) -> tuple[str, Counts]:
    ((total, collided),) = found["looks"]
    for respelled, (_, low, high) in found["spelled"]:
        counts = Counts(total, collided, respelled, (low, high))
        break
    else:
        counts = Counts(total, collided)
    return name, dataclasses.replace(counts, nothing=tuple(sorted(found["nothing"])))


def _sum_of_pairs(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    total = np.zeros(2, np.int64)
    for pair in pairs:
        total += pair
    return int(total[0]), int(total[1])


def hashed_values(tables: Tables, schema: TableSchema) -> Iterator[tuple[str, str]]:
    """Yield (vocabulary, value) for the different values of those that are hashed."""
    for name, alias, feature in id_columns(schema):
        if name in tables and isinstance(schema.vocabulary(feature.vocabulary), Hashed):
            column = tables[name][alias].combine_chunks()
            if columns.is_list(feature):
                column = values_in_cells(column).values
            for value in column.drop_null().unique().to_pylist():
                yield feature.vocabulary, value


def look_of(pair: tuple[str, str], schema: TableSchema) -> tuple[tuple[str, tuple[int, ...]], int]:
    """Return ((vocabulary, what a model sees of a value), 1)."""
    name, value = pair
    kind = schema.vocabulary(name)
    assert isinstance(kind, Hashed)
    vocabulary = kind.vocabulary(name)
    ids = separate(hashed_ids([value], vocabulary), vocabulary)
    return (name, tuple(sorted(ids.ravel().tolist()))), 1


def spelling_of(pair: tuple[str, str]) -> tuple[tuple[str, str], tuple[int, str, str]]:
    """Return ((vocabulary, spelling), (1, value, value))."""
    name, value = pair
    return (name, spelling(pa.array([value]))[0].as_py()), (1, value, value)


def merge_spelled(groups: Iterable[tuple[int, str, str]]) -> tuple[int, str, str]:
    """Return how many values a spelling has, and the least and the largest."""
    numbers, low, high = zip(*groups, strict=True)
    return sum(numbers), min(low), max(high)


def is_doubtful(pair: tuple[str, str]) -> bool:
    """Whether a (vocabulary, value) looks like nothing."""
    return bool(looks_like_nothing(pa.array([pair[1]]))[0].as_py())
