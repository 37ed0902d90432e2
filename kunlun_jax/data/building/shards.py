"""Writes the shards of a data set: each by itself, by any number of processes, in any order."""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from kunlun_jax.data import counter_random
from kunlun_jax.data import format as blocks
from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.quality.summary import Summary, summarize
from kunlun_jax.data.schema import Schema, SchemaError
from kunlun_jax.data.tables import Shard, SourceTables
from kunlun_jax.files import file_sha256, part_of, publish, settle

REPORT_VERSION = 2  # of the report of a shard, which only the build itself reads


@dataclasses.dataclass(frozen=True)
class ShardSource:
    """A data set of which any shard can be made by itself.

    Attributes:
        schema: The schema, dense features not yet given their mean and std.
        num_users: Users of the data set.
        num_shards: Shards.
        make: Makes a shard from its number; picklable if several processes are to do it.
        checksums: SHA-256 of every file that was read, by file name.
        vocabularies: By vocabulary whose values were written to a file, what the manifest says of
            that file.
        collisions: By hashed vocabulary, what the manifest says of its values.
        input_rows: What the manifest says of the rows of files; empty: nothing.
    """

    schema: Schema
    num_users: int
    num_shards: int
    make: Callable[[int], Shard]
    checksums: dict[str, str] = dataclasses.field(default_factory=dict)
    vocabularies: dict[str, dict[str, str | int]] = dataclasses.field(default_factory=dict)
    collisions: dict[str, dict[str, int | float]] = dataclasses.field(default_factory=dict)
    input_rows: dict[str, Any] = dataclasses.field(default_factory=dict)


def shards_of_tables(tables: SourceTables, num_shards: int) -> ShardSource:
    """Return the shards of tables that are in memory."""
    make = functools.partial(_cut_out, tables, num_shards)
    return ShardSource(tables.schema, tables.num_users, num_shards, make, tables.checksums)


def _cut_out(tables: SourceTables, num_shards: int, number: int) -> Shard:
    member = shard_of_users(np.arange(tables.num_users), num_shards) == number
    users = np.flatnonzero(member)
    new_index = np.cumsum(member, dtype=np.int32) - 1
    rows = {name: np.flatnonzero(member[e.users]) for name, e in tables.splits.items()}
    splits = {}
    for name, examples in tables.splits.items():
        part = examples.take(rows[name])
        splits[name] = dataclasses.replace(part, users=new_index[part.users])
    part = dataclasses.replace(
        tables,
        num_users=len(users),
        logs={name: log.take(users) for name, log in tables.logs.items()},
        splits=splits,
    )
    return Shard(part, users.astype(np.int32), rows)


def shard_of_users(users: np.ndarray, num_shards: int) -> np.ndarray:
    """Assign users to shards by a hash of their numbers.

    Args:
        users: int [n].
        num_shards: Shards.

    Returns:
        int64 [n], 0 .. num_shards - 1.
    """
    mixed = counter_random.mix(users.astype(np.uint64))
    return (mixed % np.uint64(num_shards)).astype(np.int64)


def write_shards(
    source: ShardSource, directory: pathlib.Path, *, workers: int = 1
) -> tuple[list[dict[str, Any]], list[Summary]]:
    """Write all shards that are not there yet.

    A shard is complete when its report, a JSON file in the folder `scratch`, is there; so an
    interrupted call goes on where it was.

    Args:
        source: Makes the shards; for more than one worker it is pickled.
        directory: Where they go, as `building` gives it.
        workers: Processes.

    Returns:
        What the manifest says of each file (name, bytes, sha256), and the summaries, in order.

    Raises:
        SchemaError: If a shard contradicts the schema or itself.
    """
    count = source.num_shards
    reports = [report_path(directory, number, count) for number in range(count)]
    missing = [number for number, path in enumerate(reports) if not path.exists()]
    bar = tqdm(total=source.num_shards, desc=f"{source.schema.name}: writing", unit="shard")
    with bar:
        bar.update(source.num_shards - len(missing))
        if workers == 1 or len(missing) <= 1:
            for number in missing:
                _write_one(source, directory, number)
                bar.update()
        else:
            # Not by fork: libraries in this process run threads of their own.
            context = multiprocessing.get_context("spawn")
            workers = min(workers, len(missing))
            with concurrent.futures.ProcessPoolExecutor(
                workers, mp_context=context, initializer=_end_with_parent
            ) as pool:
                tasks = [pool.submit(_write_one, source, directory, number) for number in missing]
                try:
                    for task in concurrent.futures.as_completed(tasks):
                        task.result()
                        bar.update()
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
    contents = [json.loads(path.read_text()) for path in reports]
    return [c["file"] for c in contents], [Summary.from_json(c["summary"]) for c in contents]


def _end_with_parent() -> None:
    """End this worker as soon as the process that started it is gone, however that came."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, and through it

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_one(source: ShardSource, directory: pathlib.Path, number: int) -> None:
    write_shard(source.make(number), directory, number, source.num_shards)


def write_shard(shard: Shard, directory: pathlib.Path, number: int, num_shards: int) -> None:
    """Check a shard and write its file, and then its report.

    Args:
        shard: The shard.
        directory: Directory of the build.
        number: Of the shard.
        num_shards: Shards of the data set.

    Raises:
        SchemaError: If the shard contradicts the schema or itself.
    """
    try:
        validate_tables(shard.tables, shard.rows)
    except SchemaError as error:
        raise SchemaError(f"shard {number}: {error}") from error
    report = report_path(directory, number, num_shards)
    path = directory / f"{report.stem}.arrayrecord"
    # A process of a build that was killed may be at this very shard still.
    temporary = part_of(directory / SCRATCH / path.name)
    blocks.write_shard(temporary, blocks.shard_blocks(shard))
    settle(temporary, path)
    entry = {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    publish(report, json.dumps({"file": entry, "summary": summarize(shard).to_json()}))


def report_path(directory: pathlib.Path, number: int, num_shards: int) -> pathlib.Path:
    """Return the file that is there as soon as a shard is complete."""
    return directory / SCRATCH / f"shard-{number:05d}-of-{num_shards:05d}.json"
