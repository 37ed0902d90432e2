"""The pipeline that writes the shards of a data set, and its run.

    read       (table, typed rows), file by file, by DuckDB as on one machine
    users      the users of the impressions numbered; every table's rows brought to their users
    shards     (shard, the rows of all tables)
    bounds     when validation and test begin
    values     what training has seen, numbered
    popularity (shard, of what it offers: the events of everybody before)
    ids        (shard, the ids of its values)
    written    (shard); its file and its report are there

Files are read and written where they lie: inputs and data set have to be on a file system that all
workers see under the same path. Elements are Arrow tables, so that few of them are many rows. What
a step holds in memory is a range of users, a range of values, or a shard.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports]
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.building.shards import report_path, write_shard
from kunlun_jax.data.own_data.beam import steps
from kunlun_jax.data.own_data.beam.bounds import choose_bounds
from kunlun_jax.data.own_data.beam.numbering import (
    Key,
    look_up,
    number_in_order,
    parts_by,
    range_of,
)
from kunlun_jax.data.own_data.beam.popularity import count_popularity, join_popularity
from kunlun_jax.data.own_data.beam.value_counts import count_spellings, count_values
from kunlun_jax.data.own_data.collisions import Counts, store_counts
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.popularity import popularity_groups
from kunlun_jax.data.own_data.reading import Reading
from kunlun_jax.data.own_data.row_counts import (
    refuse_no_rows,
    store_count,
    store_spellings,
    stored_counts,
)
from kunlun_jax.data.own_data.shards import first_rows, make_shard
from kunlun_jax.data.own_data.splits import Bounds
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Built, Hashed, TableSchema
from kunlun_jax.data.parquet import row_batches
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.files import part_of, publish, settle

USERS = "users"
REFUSED = "refused"
# Each is cut into as many parts as there are shards.
ROWS_PER_ELEMENT = 1 << 19


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every worker knows.

    Attributes:
        schema: What the columns mean.
        readings: How the tables are read.
        place: Directory of the build.
        num_shards: Shards.
        memory_gb: Memory in GB of a worker that reads, before it uses the disk.
    """

    schema: TableSchema
    readings: tuple[Reading, ...]
    place: pathlib.Path
    num_shards: int
    memory_gb: float

    @property
    def built(self) -> dict[str, int]:
        """The vocabularies that are built, and how often they want a value."""
        kinds = {name: self.schema.vocabulary(name) for name in self.schema.vocabulary_names}
        return {n: kind.min_count for n, kind in kinds.items() if isinstance(kind, Built)}


def run_pipeline(plan: Plan, options: list[str]) -> None:
    """Write all shards, their reports, and the counted values of the vocabularies.

    Args:
        plan: The plan.
        options: Of Beam, such as "--runner=FlinkRunner".

    Raises:
        SchemaError: If a worker refuses the data.
        RuntimeError: If the pipeline fails otherwise.
    """
    pipeline = beam.Pipeline(argv=options)
    for path in (plan.place / SCRATCH).glob(f"{REFUSED}-*.txt"):
        path.unlink()  # of a run before this one
    build_graph(pipeline, plan)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        # How an engine reports what a worker has raised is its own affair.
        for path in sorted((plan.place / SCRATCH).glob(f"{REFUSED}-*.txt")):
            raise SchemaError(path.read_text()) from error
        _refuse_no_rows(plan)
        message = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise RuntimeError(f"the Beam pipeline failed: {message}") from error
    _refuse_no_rows(plan)


def _refuse_no_rows(plan: Plan) -> None:
    """Refuse a table of which all files have been read, and no row is taken."""
    for reading in plan.readings:
        counts = stored_counts(plan.place, reading.number, len(reading.files))
        if counts is not None:
            refuse_no_rows(counts, reading.shown)


def build_graph(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Add all steps to a pipeline."""
    schema, num_shards = plan.schema, plan.num_shards
    files = [(r.number, i) for r in plan.readings for i in range(len(r.files))]
    rows = (
        pipeline
        | "files" >> beam.Create(files)
        | "any worker" >> beam.Reshuffle()
        | "read" >> beam.FlatMap(read_file, plan)
    )
    shards = _bring_to_shards(rows, plan)
    bounds = beam.pvalue.AsSingleton(choose_bounds(pipeline, shards, schema.split))
    counts = shards | "training values" >> beam.FlatMap(_count_training, schema, bounds)
    values = number_in_order(counts, "values", num_ranges=num_shards, least=plan.built)
    _ = values.values | "store values" >> beam.Map(_store_values, plan)
    _ = count_values(shards, schema) | "store counts" >> beam.Map(_store_counts, plan)
    asked = shards | "ask" >> beam.FlatMap(
        steps.ask_for_ids, schema, beam.pvalue.AsDict(values.cuts)
    )
    ids = (
        {"asked": asked, "values": values.values}
        | "values and shards" >> beam.CoGroupByKey()
        | "answer" >> beam.FlatMap(_answer)
    )
    groups = popularity_groups(schema)
    popularity = count_popularity(rows, shards, groups, num_shards)
    examples = shards | "count examples" >> beam.Map(_count_examples, bounds)
    _ = (
        {"tables": shards, "ids": ids, "popularity": popularity}
        | "rows and ids" >> beam.CoGroupByKey()
        | "write"
        >> beam.Map(
            _write, plan, bounds, beam.pvalue.AsDict(values.sizes), beam.pvalue.AsIter(examples)
        )
    )


def read_file(pair: tuple[int, int], plan: Plan) -> Iterator[tuple[str, pa.Table]]:
    """Check a file, count its rows, and yield (table, typed rows).

    Args:
        pair: Number of the table, and of its file.
        plan: The plan.

    Raises:
        SchemaError: If a row is not what the schema says; names file, row, column.
    """
    number, file = pair
    reading = plan.readings[number]
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        engine = Engine(scratch, threads=1, memory_gb=plan.memory_gb)
        try:
            store_count(reading.check(engine, file), plan.place, number, file)
            engine.copy(reading.typed(engine, [file]), scratch / "typed.parquet")
        except SchemaError as error:
            refused = plan.place / SCRATCH / f"{REFUSED}-{number:03d}-{file:06d}.txt"
            publish(refused, str(error))
            raise
        finally:
            engine.close()
        for batch in row_batches(scratch / "typed.parquet", ROWS_PER_ELEMENT):
            yield reading.name, pa.Table.from_batches([batch])


def _bring_to_shards(rows: Any, plan: Plan) -> Any:
    """Return (shard, tables) for every shard, from (table, typed rows)."""
    keys = rows | "user keys" >> beam.FlatMap(_user_keys)
    users = number_in_order(keys, USERS, num_ranges=plan.num_shards, least={USERS: 1})
    named = users.values | "each user" >> beam.FlatMap(_each_user)
    _ = count_spellings(named, "spellings of users") | "store users" >> beam.Map(
        _store_user_spellings, plan
    )
    placed = rows | "place rows" >> beam.FlatMap(_place_rows, beam.pvalue.AsDict(users.cuts))
    every = rows.pipeline | "shards" >> beam.Create(range(plan.num_shards))
    every = every | "no rows" >> beam.Map(lambda shard: (shard, None))
    numbered = (
        {"rows": placed, "users": users.values}
        | "rows and users" >> beam.CoGroupByKey()
        | "number users" >> beam.FlatMap(_number_users, plan)
    )
    return (
        (numbered, every)
        | "and empty ones" >> beam.Flatten()
        | "by shard" >> beam.GroupByKey()
        | "join" >> beam.Map(_join)
    )


def _user_keys(pair: tuple[str, pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    name, rows = pair
    if name == IMPRESSIONS:
        counts = rows["key"].value_counts()
        yield USERS, pa.table({"value": counts.field("values"), "count": counts.field("counts")})


def _each_user(pair: tuple[Key, pa.Table]) -> Iterator[tuple[str, str]]:
    for user in pair[1]["value"].to_pylist():
        yield USERS, user


def _store_user_spellings(pair: tuple[str, tuple[int, tuple[str, str, str]]], plan: Plan) -> None:
    _, (respelled, (_, low, high)) = pair
    store_spellings(respelled, (low, high), plan.place)


def _place_rows(
    pair: tuple[str, pa.Table], cuts: dict[str, list[str]]
) -> Iterator[tuple[Key, tuple[str, pa.Table]]]:
    name, rows = pair
    places = range_of(rows["key"].combine_chunks(), cuts[USERS])
    for place, part in parts_by(places, rows):
        yield (USERS, place), (name, part)


def _number_users(
    pair: tuple[Key, dict[str, Iterable[Any]]], plan: Plan
) -> Iterator[tuple[int, tuple[str, pa.Table]]]:
    _, found = pair
    for users in found["users"]:
        yield from steps.number_users(found["rows"], users, plan.schema, plan.num_shards)


def _join(pair: tuple[int, Iterable[tuple[str, pa.Table] | None]]) -> tuple[int, steps.Tables]:
    shard, parts = pair
    return shard, steps.joined(part for part in parts if part is not None)


def _count_training(
    pair: tuple[int, steps.Tables], schema: TableSchema, bounds: Bounds
) -> Iterator[tuple[str, pa.Table]]:
    _, tables = pair
    yield from steps.values_of(tables, schema, training_of=bounds).items()


def _store_counts(pair: tuple[str, Counts], plan: Plan) -> None:
    name, counts = pair
    store_counts(counts, plan.place, plan.schema.vocabulary_names.index(name))


def _store_values(pair: tuple[Key, pa.Table], plan: Plan) -> None:
    """Write a range of a vocabulary where the launching process finds it."""
    key, table = pair
    number = plan.schema.vocabulary_names.index(key[0])
    path = values_path(plan.place, number, key[1])
    temporary = part_of(path)
    pq.write_table(table.select(["value", "count"]), temporary)
    settle(temporary, path)


def values_path(place: pathlib.Path, vocabulary: int, part: int | str) -> pathlib.Path:
    """Return the file of a range of a vocabulary's values, or a pattern of such files."""
    part = f"{part:05d}" if isinstance(part, int) else part
    return place / SCRATCH / f"values-{vocabulary:03d}-{part}.parquet"


def _answer(
    pair: tuple[Key, dict[str, Iterable[Any]]],
) -> Iterator[tuple[int, tuple[str, pa.Table]]]:
    key, found = pair
    for numbered in found["values"]:
        for shard, values in found["asked"]:
            known = pa.table({"value": values, "number": look_up(values, numbered)})
            yield shard, (key[0], known.drop_null())


def _count_examples(pair: tuple[int, steps.Tables], bounds: Bounds) -> tuple[int, list[int]]:
    shard, tables = pair
    return shard, steps.count_rows(tables.get(IMPRESSIONS), bounds)


def _write(
    pair: tuple[int, dict[str, Iterable[Any]]],
    plan: Plan,
    bounds: Bounds,
    sizes: dict[str, list[int]],
    examples: Iterable[tuple[int, list[int]]],
) -> None:
    shard, found = pair
    if report_path(plan.place, shard, plan.num_shards).exists():
        return
    rows = np.zeros((plan.num_shards, len(SPLITS)), dtype=np.int64)
    for number, counts in examples:
        rows[number] = counts
    tables = next(iter(found["tables"]))
    if IMPRESSIONS in tables:
        groups = popularity_groups(plan.schema)
        rows_of_shard = join_popularity(tables[IMPRESSIONS], found["popularity"], groups)
        tables = {**tables, IMPRESSIONS: rows_of_shard}
    ids = steps.joined(found["ids"])
    kinds = {name: plan.schema.vocabulary(name) for name in plan.schema.vocabulary_names}
    known = {
        name: kind.num_ids if isinstance(kind, Hashed) else sum(sizes.get(name, []))
        for name, kind in kinds.items()
    }
    encoded = steps.shard_rows(tables, ids, plan.schema, bounds)
    made = make_shard(plan.schema.schema(known), encoded, first_rows(rows)[shard])
    write_shard(made, plan.place, shard, plan.num_shards)
