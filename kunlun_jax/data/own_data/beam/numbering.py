"""Numbers values in ascending order, however many there are and wherever they lie.

Ascending order is cut into ranges of about as many values each, at the quantiles of a sample. Each
range is sorted by itself, and its first number is the count of all values in the ranges before it;
so the numbers do not depend on where the cuts are.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam  # pyright: ignore[reportMissingImports]
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Values sampled for every range: their sizes differ by about a tenth.
SAMPLES_PER_RANGE = 64
# A part of a named set of values: (name, range).
Key = tuple[str, int]


class Numbered(NamedTuple):
    """Named sets of values, numbered.

    Attributes:
        values: ((name, range), table of `value`, `count` and `number`, ascending).
        cuts: (name, ascending values at which the ranges after the first begin).
        sizes: (name, [values of every range]).
    """

    values: Any
    cuts: Any
    sizes: Any


def number_in_order(counts: Any, label: str, *, num_ranges: int, least: dict[str, int]) -> Numbered:
    """Number the values of named sets, each from 0.

    Args:
        counts: A collection of (name, table of `value`, no null, and `count`).
        label: Begins the names of the steps.
        num_ranges: Ranges of a set; each is sorted in memory.
        least: By name, how often a value has to occur; the others are dropped.
    """
    sample = BottomSample(SAMPLES_PER_RANGE * num_ranges)
    cuts = (
        counts
        | f"{label}: sample" >> beam.CombinePerKey(sample)
        | f"{label}: cuts" >> beam.Map(_cuts, num_ranges)
    )
    ranges = (
        counts
        | f"{label}: cut" >> beam.FlatMap(_cut_counts, beam.pvalue.AsDict(cuts))
        | f"{label}: by range" >> beam.GroupByKey()
        | f"{label}: add up" >> beam.Map(_add_up, least)
    )
    sizes = (
        ranges
        | f"{label}: size" >> beam.Map(_size)
        | f"{label}: by name" >> beam.GroupByKey()
        | f"{label}: sizes" >> beam.Map(_in_order, num_ranges)
    )
    numbered = ranges | f"{label}: number" >> beam.Map(_number, beam.pvalue.AsDict(sizes))
    return Numbered(numbered, cuts, sizes)


class BottomSample(beam.CombineFn):
    """The values of the smallest hashes: the same sample in whatever order they come."""

    def __init__(self, count: int) -> None:
        """Set the size of the sample."""
        self._count = count

    def create_accumulator(self) -> dict[str, bytes]:
        """Return no sample: the hash of every value that is in it."""
        return {}

    def add_input(self, mutable_accumulator: dict[str, bytes], element: pa.Table) -> Any:
        """Add the values of a table."""
        values = element["value"].to_pylist()
        new = {value: hashlib.md5(value.encode()).digest() for value in values}
        return self._least(mutable_accumulator | new)

    def merge_accumulators(self, accumulators: Iterable[dict[str, bytes]]) -> Any:
        """Merge samples."""
        merged: dict[str, bytes] = {}
        for accumulator in accumulators:
            merged |= accumulator
        return self._least(merged)

    def extract_output(self, accumulator: dict[str, bytes]) -> list[str]:
        """Return the sample in ascending order."""
        return sorted(accumulator)

    def _least(self, sample: dict[str, bytes]) -> dict[str, bytes]:
        if len(sample) <= self._count:
            return sample
        return dict(heapq.nsmallest(self._count, sample.items(), key=lambda item: item[1]))


def range_of(values: pa.Array, cuts: list[str]) -> np.ndarray:
    """Return the ranges, int64 [n], of values that are not null."""
    distinct = values.dictionary_encode()
    # Arrow and DuckDB compare text as bytes, Python by code point, which is the same order.
    texts = np.array(distinct.dictionary.to_pylist(), dtype=object)
    places = np.searchsorted(np.array(cuts, dtype=object), texts, side="right")
    return places[distinct.indices.to_numpy()]


def parts_by(places: np.ndarray, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Yield (place, the rows of that place), rows in their order; copies, so that each is small."""
    order = np.argsort(places, kind="stable")
    found, first, count = np.unique(places[order], return_index=True, return_counts=True)
    for place, start, size in zip(found.tolist(), first, count, strict=True):
        yield place, table.take(pa.array(order[start : start + size])).combine_chunks()


def look_up(values: pa.Array, numbered: pa.Table) -> pa.Array:
    """Return the numbers of values; null where there is none."""
    known = pc.SetLookupOptions(value_set=numbered["value"].combine_chunks())
    places = pc.call_function("index_in", [values], known)
    return numbered["number"].combine_chunks().take(places)


def _cuts(pair: tuple[str, list[str]], num_ranges: int) -> tuple[str, list[str]]:
    name, sample = pair
    places = np.arange(1, num_ranges) * len(sample) // num_ranges
    return name, sorted({sample[place] for place in places.tolist()}) if sample else []


def _cut_counts(
    pair: tuple[str, pa.Table], cuts: dict[str, list[str]]
) -> Iterator[tuple[Key, pa.Table]]:
    name, counts = pair
    for place, part in parts_by(range_of(counts["value"].combine_chunks(), cuts[name]), counts):
        yield (name, place), part


def _add_up(pair: tuple[Key, Iterable[pa.Table]], least: dict[str, int]) -> tuple[Key, pa.Table]:
    key, parts = pair
    table = pa.concat_tables(parts).group_by("value").aggregate([("count", "sum")])
    table = table.select(["value", "count_sum"]).rename_columns(["value", "count"])
    table = table.filter(pc.field("count") >= least[key[0]])
    return key, table.sort_by("value").combine_chunks()


def _size(pair: tuple[Key, pa.Table]) -> tuple[str, tuple[int, int]]:
    key, table = pair
    return key[0], (key[1], table.num_rows)


def _in_order(
    pair: tuple[str, Iterable[tuple[int, int]]], num_ranges: int
) -> tuple[str, list[int]]:
    name, sizes = pair
    found = dict(sizes)
    return name, [found.get(place, 0) for place in range(num_ranges)]


def _number(pair: tuple[Key, pa.Table], sizes: dict[str, list[int]]) -> tuple[Key, pa.Table]:
    key, table = pair
    first = sum(sizes[key[0]][: key[1]])
    numbers = pa.array(np.arange(first, first + table.num_rows))
    return key, table.append_column("number", numbers)
