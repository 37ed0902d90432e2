"""Builds a data set: a source, or tables of your own -> ArrayRecord shards and dataset.json.

    kunlun-jax build --source=complete_journey --out=datasets/complete_journey
    kunlun-jax build --schema=my_schema.py --impressions=impressions.csv
        --events=view=views.csv --events=order=orders.parquet --out=datasets/mine
    kunlun-jax build ... --extend=datasets/monday --out=datasets/tuesday    # ids stay as they were

`python -m kunlun_jax.build` is the same command.

A data set appears under its name only when it is complete: it is written into a directory beside
and renamed. An interrupted build goes on where it was when the command is given again. A data set
that exists is reused, or refused if it was made with other options or from other files.
"""

import dataclasses
import json
import pathlib
from typing import Any

from absl import app, flags

from kunlun_jax.command_line import parse_flags, run_program
from kunlun_jax.data.building.directory import building_right, made_from_other
from kunlun_jax.data.building.shards import ShardSource, shards_of_tables
from kunlun_jax.data.building.writing import write_data_set
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.extension import OtherSchemaError, Parent
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.manifest import read_manifest
from kunlun_jax.data.own_data import TableSchema, load_schema
from kunlun_jax.data.own_data.beam import launch
from kunlun_jax.data.own_data.inputs import Inputs, refuse_bytes
from kunlun_jax.data.own_data.messages import clipped, path_shown
from kunlun_jax.data.own_data.shards import default_num_shards, open_tables
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS
from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.quality.leaks import LeakError
from kunlun_jax.data.schema import SchemaError
from kunlun_jax.data.sources.registry import BUILT, SOURCES
from kunlun_jax.data.tables import SourceTables

DEFAULT_SHARDS = 8
DEFAULT_MEMORY_GB = 4.0
OWN_DATA_VERSION = 3  # 2 had no cross features


def build_dataset(
    source_name: str,
    options: Any,
    directory: str | pathlib.Path,
    *,
    num_shards: int = DEFAULT_SHARDS,
    workers: int = 1,
) -> None:
    """Make the data set of a source, atomically.

    Args:
        source_name: A key of SOURCES.
        options: An instance of the source's Options dataclass.
        directory: Where the data set goes; must not exist.
        num_shards: Shards; users are spread over them by hash.
        workers: Processes that write shards, of a source that makes them one by one.

    Raises:
        ValueError: On an unknown source, options of another source, num_shards < 1 or workers < 1.
        DatasetError: If the directory exists.
        SchemaError: If the source produced contradictory tables.
    """
    description = describe_source(source_name, options)
    _at_least_one(num_shards=num_shards, workers=workers)
    directory = pathlib.Path(directory).absolute()
    refuse_bytes(directory)
    source = SOURCES[source_name]
    with building_right(directory):
        _refuse_existing(directory)
        if source.shards is not None:
            shards = source.shards(options, num_shards)
        else:
            tables, workers = source.load(options), 1  # tables in memory are not sent around
            validate_tables(tables)
            shards = shards_of_tables(tables, num_shards)
        write_data_set(
            lambda _: shards, directory, description, shards.checksums, num_shards, workers
        )


def build_own_data(
    schema: TableSchema,
    inputs: Inputs,
    directory: str | pathlib.Path,
    *,
    num_shards: int = 0,
    workers: int = 1,
    memory_gb: float = DEFAULT_MEMORY_GB,
    beam_options: list[str] | None = None,
    extend: str | pathlib.Path | None = None,
    statistics: str = "keep",
) -> None:
    """Make a data set from tables of your own, atomically; one made from the same is kept.

    The content depends neither on the order of the tables' rows nor on the number of workers nor on
    the engine.

    Args:
        schema: What the columns mean.
        inputs: The files.
        directory: Where the data set goes.
        num_shards: Shards; 0: as many as keep one small, given the size of the files.
        workers: Processes that write shards, and threads that read tables.
        memory_gb: Memory, in GB, that joins and sorts may take before they use the disk.
        beam_options: If given, an Apache Beam pipeline of these options makes the shards, on
            whatever engine they name; then `workers` does not count.
        extend: Directory of a data set, or a run's folder `dataset`: known values keep their ids,
            and new ones follow. It is only read.
        statistics: Of a data set that extends another: "keep" its means and deviations, or
            "refresh" them.

    Raises:
        ValueError: If a number is out of range, or Beam should extend a data set.
        ImportError: If DuckDB, or Beam, is not installed.
        DatasetError: If the directory exists and was made from something else.
        SchemaError: If the tables are not what the schema says; names file, row and column. Or if
            the data set to extend has other features.
    """
    _at_least_one(num_shards=num_shards or 1, workers=workers)
    if memory_gb <= 0:
        raise ValueError(f"memory_gb: expected > 0, got {memory_gb}")
    directory = pathlib.Path(directory).absolute()
    refuse_bytes(directory)
    if extend is not None and beam_options is not None:
        raise ValueError("--extend: expected a build by DuckDB, got --beam")
    inputs.check_exist(schema)
    parent = None
    if extend is not None:
        parent = Parent.open(pathlib.Path(extend).absolute(), statistics, schema.declared())
    num_shards = num_shards or default_num_shards(inputs)
    checksums = inputs.checksums()
    description = {"name": "own_data", "version": OWN_DATA_VERSION, "options": schema.to_json()}
    with building_right(directory):
        if directory.exists():
            manifest = read_manifest(directory)
            extended = parent.identity if parent else {}
            difference = made_from_other(manifest, description, checksums, extended)
            if difference:
                raise DatasetError(
                    f"{path_shown(directory)}: exists already, made from another schema or other "
                    f"files ({difference}); remove it or choose another directory"
                )
            return

        def prepare(scratch: pathlib.Path) -> ShardSource:
            known = {"num_shards": num_shards, "checksums": checksums, "memory_gb": memory_gb}
            if beam_options is not None:
                return launch.open_tables(schema, inputs, scratch, options=beam_options, **known)
            return open_tables(schema, inputs, scratch, threads=workers, parent=parent, **known)

        try:
            write_data_set(
                prepare, directory, description, checksums, num_shards, workers, parent=parent
            )
        except LeakError as error:
            table = error.leak.stream or IMPRESSIONS
            raise SchemaError(clipped(f"{path_shown(inputs.place(table))}: {error}")) from error


def open_or_build(
    source_name: str, options: Any, directory: str | pathlib.Path, **opening: Any
) -> Dataset:
    """Open the data set of a source; build it first where there is none.

    Args:
        source_name: A key of SOURCES.
        options: An instance of the source's Options dataclass.
        directory: Where the data set lies, or goes.
        **opening: Keyword arguments of `Dataset.open`.

    Raises:
        DatasetError: If the directory holds something else: no data set, a damaged one, or one
            of another source, of other options or of another version of the source.
        ValueError: As `build_dataset`.
    """
    directory = pathlib.Path(directory)
    expected = describe_source(source_name, options)
    if source_name == BUILT:
        return Dataset.open(directory, **opening)
    if not directory.exists():
        try:
            build_dataset(source_name, options, directory)
        except DatasetError:
            # Another process may have built it while this one waited for the lock.
            if not directory.exists():
                raise
    got = read_manifest(directory)["source"]
    if not _is_of(got, expected, SOURCES[source_name].earlier):
        raise DatasetError(
            f"{directory}: expected source {expected}, got {got}; remove it or choose another "
            "directory"
        )
    return Dataset.open(directory, **opening)


def _is_of(got: dict[str, Any], expected: dict[str, Any], earlier: tuple[int, ...]) -> bool:
    """Tell whether a data set is of a source, as it is or as it was; then without later options."""
    if got == expected:
        return True
    options = {k: v for k, v in expected["options"].items() if k in got["options"]}
    return got in [{**expected, "version": v, "options": options} for v in earlier]


def describe_source(source_name: str, options: Any) -> dict[str, Any]:
    """Return what dataset.json says about the source: name, version, options.

    Raises:
        ValueError: On an unknown source or options of another source.
    """
    if source_name not in SOURCES:
        raise ValueError(f"source: expected one of {sorted(SOURCES)}, got {source_name!r}")
    source = SOURCES[source_name]
    if not isinstance(options, source.options):
        raise ValueError(
            f"options of source {source_name!r}: expected {source.options.__qualname__} of "
            f"{source.options.__module__}, got {type(options).__qualname__}"
        )
    values = json.loads(json.dumps(dataclasses.asdict(options)))
    return {"name": source_name, "version": source.version, "options": values}


def write_dataset(
    tables: SourceTables,
    directory: pathlib.Path,
    *,
    source: dict[str, Any],
    num_shards: int = DEFAULT_SHARDS,
) -> None:
    """Validate tables that are in memory and write them, atomically.

    Raises:
        DatasetError: If the directory exists.
        SchemaError: If the tables contradict themselves.
    """
    validate_tables(tables)
    shards = shards_of_tables(tables, num_shards)
    with building_right(directory):
        _refuse_existing(directory)
        write_data_set(lambda _: shards, directory, source, tables.checksums, num_shards, 1)


def _refuse_existing(directory: pathlib.Path) -> None:
    if directory.exists():
        raise DatasetError(f"{directory}: exists already")


def _at_least_one(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


def _main(argv: list[str]) -> None:
    values = flags.FLAGS
    if len(argv) > 1 and not values.beam:
        raise app.UsageError(f"expected flags only, got {argv[1]!r:.100} (quote paths with blanks)")
    try:
        counts = _run(values, argv[1:])
        findings = read_manifest(pathlib.Path(values.out)).get("findings", [])
    except (TypeError, ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        lines = [str(error)]
        if isinstance(error, OtherSchemaError):
            lines = lines[0].splitlines()
        name = type(error).__name__
        raise SystemExit("\n".join(clipped(f"{name}: {line}") for line in lines)) from error
    print(json.dumps({"directory": values.out, **counts, "findings": findings}))


def _run(values: flags.FlagValues, beam_options: list[str]) -> dict[str, Any]:
    if (values.source is None) == (values.schema is None):
        raise ValueError("expected either --source or --schema")
    if values.beam and values.schema is None:
        raise ValueError("--beam: expected --schema; the other sources are made on one machine")
    if values.extend and values.schema is None:
        raise ValueError("--extend: expected --schema; the other sources number their ids alike")
    if values.statistics and not values.extend:
        raise ValueError("--statistics: expected --extend, got none")
    if values.source is not None:
        options = SOURCES[values.source].make_options(json.loads(values.options))
        num_shards = values.num_shards or DEFAULT_SHARDS
        if not pathlib.Path(values.out).exists():
            build_dataset(
                values.source, options, values.out, num_shards=num_shards, workers=values.workers
            )
        return open_or_build(values.source, options, values.out).manifest["counts"]
    schema = load_schema(values.schema)
    inputs = Inputs.parse(schema, values.impressions, values.events)
    build_own_data(
        schema,
        inputs,
        values.out,
        num_shards=values.num_shards,
        workers=values.workers,
        memory_gb=values.memory_gb,
        beam_options=beam_options if values.beam else None,
        extend=values.extend,
        statistics=values.statistics or "keep",
    )
    manifest = read_manifest(pathlib.Path(values.out))
    rows = manifest.get("source_rows", {}).get("tables", {})
    return {**manifest["counts"], **({"tables": rows} if rows else {})}


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags of this command."""

    def text(name: str, default: str | None, meaning: str, *, required: bool = False) -> None:
        flags.DEFINE_string(name, default, meaning, flag_values=values, required=required)

    def whole(name: str, default: int, meaning: str) -> None:
        flags.DEFINE_integer(name, default, meaning, flag_values=values)

    flags.DEFINE_enum("source", None, sorted(SOURCES), "Source of the data.", flag_values=values)
    text("options", "{}", "Options of the source, as JSON.")
    text("schema", None, "Python file with the SCHEMA of tables of your own.")
    text("impressions", None, "CSV or Parquet: a file, a folder or a pattern.")
    flags.DEFINE_multi_string(
        "events", [], "STREAM=FILES, once for every event stream.", flag_values=values
    )
    text("out", None, "Directory of the data set.", required=True)
    text("extend", None, "A data set whose known ids stay as they are; new ones follow.")
    flags.DEFINE_enum(
        "statistics", None, ["keep", "refresh"], "With --extend: means and deviations of numbers; "
        "keep is the default.", flag_values=values,
    )  # fmt: skip
    whole("num_shards", 0, "Shards; 0: 8, or what the size of the tables asks for.")
    whole("workers", 1, "Processes that write shards.")
    flags.DEFINE_float(
        "memory_gb", DEFAULT_MEMORY_GB, "Memory of joins and sorts, in GB.", flag_values=values
    )
    flags.DEFINE_boolean(
        "beam", False, "Build by Apache Beam; its options follow after --.", flag_values=values
    )


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    run_program(_main, parse_flags)
