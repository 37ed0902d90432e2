"""Builds a data set: source -> validated tables -> ArrayRecord shards and dataset.json.

    python -m kunlun_jax.data.build --source=complete_journey --out=datasets/complete_journey

A data set appears under its name only when it is complete: it is written into a directory beside
and renamed. One that exists is reused, or refused if it was made with other options.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from kunlun_jax.data import format as blocks
from kunlun_jax.data.dataset import (
    FORMAT_VERSION,
    MANIFEST,
    Dataset,
    file_sha256,
    read_manifest,
)
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.sources.registry import SOURCES
from kunlun_jax.data.standardize import fit_schema
from kunlun_jax.data.tables import SourceTables
from kunlun_jax.data.validate import validate_tables

LIBRARIES = ("numpy", "pyarrow", "array-record")


def build_dataset(
    source_name: str, options: Any, directory: str | pathlib.Path, *, num_shards: int = 8
) -> None:
    """Make the data set of a source, atomically.

    Args:
        source_name: A key of SOURCES.
        options: An instance of the source's Options dataclass.
        directory: Where the data set goes; must not exist.
        num_shards: Shards; users are spread over them by hash.

    Raises:
        ValueError: On an unknown source, options of another source or num_shards < 1.
        DatasetError: If the directory exists.
        SchemaError: If the source produced contradictory tables.
    """
    description = describe_source(source_name, options)
    if num_shards < 1:
        raise ValueError(f"num_shards: expected at least 1, got {num_shards}")
    directory = pathlib.Path(directory).absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        if directory.exists():
            raise DatasetError(f"{directory}: exists already")
        tables = SOURCES[source_name].load(options)
        write_dataset(tables, directory, source=description, num_shards=num_shards)


def open_or_build(
    source_name: str, options: Any, directory: str | pathlib.Path, *, num_shards: int = 8
) -> Dataset:
    """Open the data set of a source; build it first where there is none.

    Raises:
        DatasetError: If the directory holds something else: no data set, a damaged one, or one
            of another source, of other options or of another version of the source.
        ValueError: As `build_dataset`.
    """
    directory = pathlib.Path(directory)
    expected = describe_source(source_name, options)
    if not directory.exists():
        try:
            build_dataset(source_name, options, directory, num_shards=num_shards)
        except DatasetError:
            # Another process may have built it while this one waited for the lock.
            if not directory.exists():
                raise
    got = read_manifest(directory)["source"]
    if got != expected:
        raise DatasetError(
            f"{directory}: expected source {expected}, got {got}; remove it or choose another "
            "directory"
        )
    return Dataset.open(directory)


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
    tables: SourceTables, directory: pathlib.Path, *, source: dict[str, Any], num_shards: int = 8
) -> None:
    """Validate tables and write them, atomically.

    Raises:
        SchemaError: If the tables contradict themselves.
    """
    validate_tables(tables)
    schema = fit_schema(tables)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=_prefix(directory), dir=directory.parent))
    try:
        files = _write_shards(temporary, tables, schema, num_shards)
        manifest = _manifest(tables, schema, source, files)
        path = temporary / MANIFEST
        path.write_text(json.dumps(manifest, indent=1) + "\n")
        _sync(path)
        # mkdtemp makes a directory that only its owner can read.
        temporary.chmod(0o755)
        _sync(temporary)
        temporary.rename(directory)
        _sync(directory.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def shard_of_users(num_users: int, num_shards: int) -> np.ndarray:
    """Assign users to shards by a hash (splitmix64) of their index."""
    with np.errstate(over="ignore"):
        x = np.arange(num_users, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x % np.uint64(num_shards)).astype(np.int64)


def _write_shards(
    directory: pathlib.Path, tables: SourceTables, schema: Schema, num_shards: int
) -> list[dict[str, Any]]:
    shards = shard_of_users(tables.num_users, num_shards)
    files = []
    for shard in tqdm(range(num_shards), desc=f"{schema.name}: writing", unit="shard"):
        path = directory / f"shard-{shard:05d}-of-{num_shards:05d}.arrayrecord"
        blocks.write_shard(path, _shard_blocks(tables, schema, shards == shard))
        _sync(path)
        entry = {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        files.append(entry)
    return files


def _shard_blocks(tables: SourceTables, schema: Schema, member: np.ndarray) -> Iterator[bytes]:
    """Yield the records of the shard whose users `member` marks."""
    users = np.flatnonzero(member)
    for stream in schema.streams:
        for start in range(0, len(users), blocks.USERS_PER_BLOCK):
            part = users[start : start + blocks.USERS_PER_BLOCK]
            columns = blocks.log_columns(tables.logs[stream.name], stream, part)
            yield blocks.encode_block(blocks.LOG, stream.name, columns)
    for name, examples in tables.splits.items():
        rows = np.flatnonzero(member[examples.users])
        for start in range(0, len(rows), blocks.EXAMPLES_PER_BLOCK):
            part = rows[start : start + blocks.EXAMPLES_PER_BLOCK]
            columns = blocks.example_columns(examples, schema, part)
            yield blocks.encode_block(blocks.EXAMPLES, name, columns)


def _manifest(
    tables: SourceTables, schema: Schema, source: dict[str, Any], files: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "source": source,
        "source_checksums": tables.checksums,
        "schema": schema.to_json(),
        "counts": {
            "users": tables.num_users,
            "events": {name: len(log.times) for name, log in tables.logs.items()},
            "rows": {name: len(examples) for name, examples in tables.splits.items()},
        },
        "label_rates": {
            name: {
                task: float(examples.labels[:, i].mean()) if len(examples) else None
                for i, task in enumerate(schema.labels)
            }
            for name, examples in tables.splits.items()
        },
        "seed": source["options"].get("seed"),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "files": files,
    }


@contextlib.contextmanager
def _lock(directory: pathlib.Path) -> Iterator[None]:
    """Hold the right to build this directory, and remove what killed builds have left."""
    with (directory.parent / f".{directory.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for stale in directory.parent.glob(f"{_prefix(directory)}*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _prefix(directory: pathlib.Path) -> str:
    return f".{directory.name}.building-"


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    values = flags.FLAGS
    try:
        kind = SOURCES[values.source].options
        options = kind(**json.loads(values.options))
        dataset = open_or_build(values.source, options, values.out, num_shards=values.num_shards)
    except (TypeError, ValueError, OSError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    counts = dataset.manifest["counts"]
    print(json.dumps({"directory": str(dataset.directory), **counts}))


if __name__ == "__main__":
    flags.DEFINE_enum("source", None, sorted(SOURCES), "Source of the data.", required=True)
    flags.DEFINE_string("out", None, "Directory of the data set.", required=True)
    flags.DEFINE_string("options", "{}", "Options of the source, as JSON.")
    flags.DEFINE_integer("num_shards", 8, "Shards.")
    app.run(_main)
