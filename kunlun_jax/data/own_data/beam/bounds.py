"""Finds when validation and test begin: of `ByTime`, without sorting all requests."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam  # pyright: ignore[reportMissingImports]
import numpy as np
import pyarrow as pa

from kunlun_jax.data.own_data.beam.steps import Tables
from kunlun_jax.data.own_data.splits import Bounds, places_of_bounds
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, ByTime

# Seconds are counted by spans of so many first, then one by one in the spans that matter.
SPAN = 1 << 16


class Within(NamedTuple):
    """Where a request is found that is the n-th in order of time.

    Attributes:
        span: Number of its span.
        place: Its place among the requests of that span.
    """

    span: int
    place: int


def choose_bounds(pipeline: beam.Pipeline, shards: Any, split: Any) -> Any:
    """Return a collection of one `Bounds`.

    Args:
        pipeline: The pipeline.
        shards: A collection of (shard, rows by table).
        split: `ByTime`, `ByDate` or `ByUser`.
    """
    if not isinstance(split, ByTime):
        return pipeline | "bounds" >> beam.Create([Bounds.of(split, [])])
    requests = shards | "requests" >> beam.FlatMap(_requests)
    wanted = beam.pvalue.AsSingleton(
        requests
        | "spans" >> beam.Map(count_spans)
        | "all spans" >> beam.CombineGlobally(_total)
        | "wanted spans" >> beam.Map(find_spans, split)
    )
    return (
        requests
        | "seconds" >> beam.Map(count_seconds, wanted)
        | "all seconds" >> beam.CombineGlobally(_total)
        | "bounds" >> beam.Map(_bounds, split, wanted)
    )


def _requests(pair: tuple[int, Tables]) -> Iterator[pa.Table]:
    _, tables = pair
    if IMPRESSIONS in tables:
        yield tables[IMPRESSIONS].select(["time"])


def _total(counters: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for counter in counters:
        for key, count in counter.items():
            total[key] = total.get(key, 0) + count
    return total


def _bounds(seconds: dict[int, int], split: ByTime, wanted: list[Within]) -> Bounds:
    return Bounds.of(split, find_seconds(seconds, wanted))


def count_spans(rows: pa.Table) -> dict[int, int]:
    """Count requests by spans of SPAN seconds."""
    spans, counts = np.unique(rows["time"].to_numpy() // SPAN, return_counts=True)
    return dict(zip(spans.tolist(), counts.tolist(), strict=True))


def find_spans(spans: dict[int, int], split: ByTime) -> list[Within]:
    """Return where the first requests of validation and of test are."""
    numbers = np.array(sorted(spans))
    before = np.cumsum([0, *(spans[number] for number in numbers.tolist())])
    found = []
    for place in places_of_bounds(split, int(before[-1])):
        i = int(np.searchsorted(before, place, side="right")) - 1
        found.append(Within(int(numbers[i]), place - int(before[i])))
    return found


def count_seconds(rows: pa.Table, wanted: list[Within]) -> dict[int, int]:
    """Count the requests of the spans that are wanted by second."""
    time = rows["time"].to_numpy()
    time = time[np.isin(time // SPAN, [within.span for within in wanted])]
    seconds, counts = np.unique(time, return_counts=True)
    return dict(zip(seconds.tolist(), counts.tolist(), strict=True))


def find_seconds(seconds: dict[int, int], wanted: list[Within]) -> list[int]:
    """Return the seconds of the requests that are wanted."""
    found = []
    for span, place in wanted:
        inside = sorted(second for second in seconds if second // SPAN == span)
        before = np.cumsum([seconds[second] for second in inside])
        found.append(inside[int(np.searchsorted(before, place, side="right"))])
    return found
