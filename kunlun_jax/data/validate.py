"""Validates a data set, and writes its card.

    kunlun-jax validate datasets/complete_journey    # or python -m kunlun_jax.validate

Files are compared with their checksums, and so are the columns made of them, if they lie there;
the content is compared with the schema, and the whole with the limits that the schema sets. Every
finding is a line; with any, the exit status is 1. Shards are read one by one, so that memory does
not grow with the data set.
"""

import pathlib
import time
from typing import Any

from absl import app, flags
from tqdm import tqdm

from kunlun_jax.command_line import parse_flags, run_program
from kunlun_jax.data.columns.layout import layout
from kunlun_jax.data.columns.mapped import columns_path, find_damage, read_index
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.manifest import check_file, read_manifest, read_schema
from kunlun_jax.data.quality.card import write_card
from kunlun_jax.data.quality.checks import find_excesses
from kunlun_jax.data.quality.leaks import TrainingSample, find_leaks
from kunlun_jax.data.quality.mismatches import find_mismatches, name_ids
from kunlun_jax.data.quality.one_sided import find_one_sided
from kunlun_jax.data.quality.profile import profile
from kunlun_jax.data.quality.report import Report
from kunlun_jax.data.quality.summary import Summary, summarize
from kunlun_jax.data.reading.shard_reader import read_shard
from kunlun_jax.data.schema import Schema

DAY = 86400


def validate(directory: str | pathlib.Path, *, now: float | None = None) -> Report:
    """Read a data set, shard by shard.

    Args:
        directory: Directory of the data set.
        now: Unix seconds after which no time may be; by default tomorrow's.

    Raises:
        DatasetError: If there is none, or dataset.json is damaged.
    """
    directory = pathlib.Path(directory)
    manifest, schema = read_manifest(directory), read_schema(directory)
    findings: list[str] = []
    summary, shape, sample = None, None, TrainingSample()
    for entry in manifest.get("vocabularies", {}).values():
        findings += _problems(directory, entry)
    readable = not findings
    for entry in tqdm(manifest["files"], desc=f"{schema.name}: reading", unit="shard"):
        path = directory / entry["name"]
        problems = _problems(directory, entry)
        if not problems:
            try:
                shard = read_shard(path, schema)
            except DatasetError as error:
                problems = [str(error)]
            else:
                sample.add(shard)
                part, counts = summarize(shard), profile(shard, schema)
                summary = part if summary is None else summary.merge(part)
                shape = counts if shape is None else shape.merge(counts)
        findings += problems
    if summary is not None and shape is not None:
        findings += [leak.line for leak in find_leaks(schema, summary, sample)]
        named = manifest if readable else {**manifest, "vocabularies": {}}
        findings += find_mismatches(schema, named, summary.meetings, directory)
        name_of = name_ids(schema, named, directory)
        findings += [found.line(name_of) for found in find_one_sided(schema, sample)]
        findings += find_excesses(schema, summary, shape, now or time.time() + DAY)
        if not findings:
            findings += _miscounted(manifest, schema, summary)
    findings += _damaged_columns(columns_path(directory, manifest), manifest, schema)
    return Report(manifest, schema, findings, summary, shape)


def _problems(directory: pathlib.Path, entry: dict[str, Any]) -> list[str]:
    try:
        check_file(directory, entry)
    except DatasetError as error:
        return [str(error)]
    return []


def _damaged_columns(path: pathlib.Path, manifest: dict[str, Any], schema: Schema) -> list[str]:
    """Return what is wrong with the columns that lie in the data set's directory, if any do."""
    if not path.exists():
        return []
    try:
        index = read_index(path, manifest, schema)
    except DatasetError as error:
        return [str(error)]
    checksums = {entry["name"]: entry["sha256"] for entry in index["columns"]}
    with path.open("rb") as file:
        damage = find_damage(path, file, layout(schema, manifest["counts"]), checksums)
    return [damage] if damage else []


def _miscounted(manifest: dict[str, Any], schema: Schema, summary: Summary) -> list[str]:
    counts = manifest["counts"]
    expected = {"users": counts["users"]}
    expected |= {f"events/{s.name}": counts["events"][s.name] for s in schema.streams}
    expected |= {f"rows/{split}": count for split, count in counts["rows"].items()}
    return [
        f"dataset.json: {key}: expected {count}, the shards hold {summary.sums[key]}"
        for key, count in expected.items()
        if summary.sums[key] != count
    ]


def _main(argv: list[str]) -> None:
    if len(argv) != 2:
        raise app.UsageError("expected the directory of a data set")
    directory = pathlib.Path(argv[1])
    try:
        report = validate(directory)
        card = write_card(report, pathlib.Path(flags.FLAGS.out or directory / "card"))
    except (ValueError, OSError) as error:
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    for line in report.findings:
        print(line)
    print(f"{len(report.findings)} findings; card: {card}")
    raise SystemExit(1 if report.findings else 0)


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "Directory of the card; by default DATASET/card.")
    run_program(_main, parse_flags)
