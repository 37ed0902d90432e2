"""The one way in which data sets are written: shards, then what they add up to, then the name."""

import importlib.metadata
import json
import pathlib
from collections.abc import Callable
from typing import Any

from kunlun_jax.data.building.directory import building
from kunlun_jax.data.building.shards import REPORT_VERSION, ShardSource, write_shards
from kunlun_jax.data.building.standardize import fit_schema
from kunlun_jax.data.extension import Parent
from kunlun_jax.data.manifest import FORMAT_VERSION, MANIFEST, manifest_checksum
from kunlun_jax.data.quality.leaks import TrainingSample, refuse_leaks
from kunlun_jax.data.quality.mismatches import find_mismatches, name_ids
from kunlun_jax.data.quality.one_sided import find_one_sided
from kunlun_jax.data.quality.summary import LENGTHS, Summary, merge_all
from kunlun_jax.data.reading.shard_reader import read_shard
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.files import publish

LIBRARIES = ("numpy", "pyarrow", "array-record")


def write_data_set(
    prepare: Callable[[pathlib.Path], ShardSource],
    directory: pathlib.Path,
    description: dict[str, Any],
    checksums: dict[str, str],
    num_shards: int,
    workers: int,
    *,
    parent: Parent | None = None,
) -> None:
    """Write the shards and the manifest of a data set.

    Args:
        prepare: Returns the source, given the directory of the build, in whose folder `scratch`
            it may put what it needs until then.
        directory: Where the data set appears when it is complete; locked, and not there yet.
        description: What the manifest says of the source: name, version, options.
        checksums: SHA-256 of every file that the source reads.
        num_shards: Shards of the source.
        workers: Processes that write shards.
        parent: The data set that is extended.

    Raises:
        SchemaError: If the data contradict the schema, or give a label away.
    """
    plan = {
        "format_version": FORMAT_VERSION,
        "source": description,
        "source_checksums": checksums,
        "num_shards": num_shards,
        "versions": _versions(),
        "reports": REPORT_VERSION,  # a build goes on with the reports of its own kind
        **({"parent": parent.identity} if parent else {}),
    }
    with building(directory, plan) as staging:
        source = prepare(staging)
        files, summaries = write_shards(source, staging, workers=workers)
        summary = merge_all(summaries)
        schema = fit_schema(source.schema, summary)
        if parent:
            schema = parent.standardized(schema)
        sample = TrainingSample()
        for file in files:
            if not sample.is_full:
                sample.add(read_shard(staging / file["name"], schema))
        refuse_leaks(schema, summary, sample)
        manifest = {
            "format_version": FORMAT_VERSION,
            "source": description,
            "source_checksums": checksums,
            **({"parent": parent.describe(schema)} if parent else {}),
            **({"source_rows": source.input_rows} if source.input_rows else {}),
            "schema": schema.to_json(),
            **_describe_content(source, summary),
            "seed": description["options"].get("seed"),
            "versions": plan["versions"],
            "files": files,
            "vocabularies": source.vocabularies,
            "hashed_vocabularies": source.collisions,
        }
        name_of = name_ids(schema, manifest, staging)
        manifest["findings"] = [
            *find_mismatches(schema, manifest, summary.meetings, staging),
            *(found.line(name_of) for found in find_one_sided(schema, sample)),
        ]
        manifest["manifest_sha256"] = manifest_checksum(manifest)
        publish(staging / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _describe_content(source: ShardSource, summary: Summary) -> dict[str, Any]:
    schema, sums = source.schema, summary.sums
    rows = {name: sums[f"rows/{name}"] for name in SPLITS}

    def share(key: str, count: int) -> float | None:
        return sums[key] / count if count else None

    return {
        "counts": {
            "users": source.num_users,
            "events": {s.name: sums[f"events/{s.name}"] for s in schema.streams},
            "rows": rows,
        },
        "label_rates": {
            name: {task: summary.label_rate(name, task) for task in schema.labels}
            for name in SPLITS
        },
        "oov_shares": {
            name: {
                f.name: share(f"oov/{name}/{f.name}", sums[f"values/{name}/{f.name}"])
                for f in schema.sparse
            }
            for name in SPLITS
        },
        "histories_within": {
            s.name: {str(n): share(f"within/{s.name}/{n}", rows["train"]) for n in LENGTHS}
            for s in schema.streams
        },
    }


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
