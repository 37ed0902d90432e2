"""Starts the pipeline, and collects what it has written."""

import json
import pathlib

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.building.shards import ShardSource, report_path
from kunlun_jax.data.own_data.collisions import describe_collisions
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.reading import Reading, plan_readings, strangers
from kunlun_jax.data.own_data.row_counts import describe_rows
from kunlun_jax.data.own_data.splits import empty_split
from kunlun_jax.data.own_data.staging import latest_moment
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS, Built, Hashed, TableSchema
from kunlun_jax.data.own_data.vocabularies import (
    FOLDER,
    describe_vocabulary,
    no_values,
    vocabulary_file,
    write_vocabulary,
)
from kunlun_jax.data.tables import SPLITS, Shard


def open_tables(
    schema: TableSchema,
    inputs: Inputs,
    place: pathlib.Path,
    *,
    num_shards: int,
    checksums: dict[str, str],
    memory_gb: float,
    options: list[str],
) -> ShardSource:
    """Write all shards by a Beam pipeline, and return what there is to say of them.

    Args:
        schema: What the columns mean.
        inputs: The files; a worker reads one at a time, so that several can be read at once.
        place: Directory of the build; all workers see it, and the files, under the same paths.
        num_shards: Shards, and ranges of users and of values.
        checksums: SHA-256 of every file.
        memory_gb: Memory in GB of a worker that reads, before it uses the disk.
        options: Of Beam, such as "--runner=FlinkRunner".

    Raises:
        ImportError: If Beam is not installed.
        SchemaError: If the tables are not what the schema says; names file, row, column.
        RuntimeError: If the pipeline fails.
    """
    try:
        from kunlun_jax.data.own_data.beam.pipeline import Plan, run_pipeline
    except ImportError as error:
        raise ImportError(f"no Apache Beam ({error}): pip install 'kunlun_jax[beam]'") from error
    engine = Engine(place / SCRATCH, threads=1, memory_gb=memory_gb)
    try:
        readings = plan_readings(engine, schema, inputs, place, latest_moment())
    finally:
        engine.close()
    (place / FOLDER).mkdir(exist_ok=True)
    run_pipeline(Plan(schema, tuple(readings), place, num_shards, memory_gb), options)
    num_users, kept = _count_users(schema, readings, place, num_shards)
    sizes, vocabularies = _collect_vocabularies(schema, place)
    kinds = {name: schema.vocabulary(name) for name in schema.vocabulary_names}
    collisions = {
        name: describe_collisions(place, number, kind)
        for number, (name, kind) in enumerate(kinds.items())
        if isinstance(kind, Hashed)
    }
    return ShardSource(
        schema.schema(sizes),
        num_users,
        num_shards,
        _missing,
        checksums,
        vocabularies,
        collisions,
        describe_rows(inputs, place, kept),
    )


def _missing(number: int) -> Shard:
    raise AssertionError(f"the pipeline has written shard {number}")


def _count_users(
    schema: TableSchema, readings: list[Reading], place: pathlib.Path, num_shards: int
) -> tuple[int, dict[str, int]]:
    """Return the users, and the rows that are kept of every table; refuses what is empty."""
    reports = [report_path(place, number, num_shards) for number in range(num_shards)]
    sums = [json.loads(path.read_text())["summary"]["sums"] for path in reports]
    splits = {split: sum(part[f"rows/{split}"] for part in sums) for split in SPLITS}
    kept = {IMPRESSIONS: sum(splits.values())}
    for reading in readings[1:]:
        kept[reading.name] = sum(part[f"events/{reading.name}"] for part in sums)
        if not kept[reading.name]:
            raise strangers(reading)
    for split, count in splits.items():
        if not count:
            raise empty_split(schema, split)
    return sum(part["users"] for part in sums), kept


def _collect_vocabularies(
    schema: TableSchema, place: pathlib.Path
) -> tuple[dict[str, int], dict[str, dict[str, str | int]]]:
    """Put the ranges of every vocabulary together; return sizes, and what the manifest says."""
    from kunlun_jax.data.own_data.beam.pipeline import values_path

    sizes, entries = {}, {}
    for number, name in enumerate(schema.vocabulary_names):
        kind = schema.vocabulary(name)
        if isinstance(kind, Hashed):
            sizes[name] = kind.num_ids
            continue
        assert isinstance(kind, Built)
        if not (place / vocabulary_file(number)).exists():
            pattern = values_path(place, number, "*")
            ranges = sorted(pattern.parent.glob(pattern.name))
            if not ranges:
                raise no_values(name, kind)
            write_vocabulary(ranges, place, number)
        sizes[name], entries[name] = describe_vocabulary(place, number)
        if not sizes[name]:
            raise no_values(name, kind)
    return sizes, entries
