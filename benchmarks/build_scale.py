"""Seconds, processor time and peak memory of building data sets of millions of events.

    python -m benchmarks.build_scale
    python -m benchmarks.build_scale --kinds=csv --events=300_000_000 --workers=2 --memory_gb=4
    python -m benchmarks.build_scale --kinds=csv --events=1_000_000 --workers=1,4,beam

Each build is a process of its own, by the command line that a user would give; all of a kind have
to give the same bytes, and as many users, events, examples and positives as went into the tables.
Memory is the sum over that process and its workers (resident, from /proc, so Linux only; pages that
they share count twice). `beam` in place of a number of workers is the Apache Beam pipeline with the
direct runner, which keeps all data in the memory of one process. The tables of the kinds `parquet`
and `csv` have one impression to ten events.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import duckdb
from absl import app, flags

from benchmarks.report import RESULTS, ROOT, environment, write_json

_EVENTS = flags.DEFINE_integer("events", 10_000_000, "Events, about.")
_KINDS = flags.DEFINE_list("kinds", ["synthetic", "parquet", "csv"], "What is built.")
_WORKERS = flags.DEFINE_list("workers", ["1", "4"], "Numbers of workers to measure, or beam.")
_MEMORY = flags.DEFINE_float("memory_gb", 2.0, "What joins and sorts may take, in GB.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Directory for inputs and data sets.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "build_scale.json"), "Where the JSON goes.")
# What `synthetic` makes on average: three streams whose users are active to three degrees.
SYNTHETIC_EVENTS_PER_USER = 167
POLL_SECONDS = 0.5
# The row numbers of impressions begin here, those of events at 0.
FIRST_IMPRESSION = 10**12
LABEL = "CAST(hash(i + 3) % 10 < 2 AS INTEGER)"
SCHEMA = """
from kunlun_jax.data import DenseFeature
from kunlun_jax.data.own_data import Built, Events, TableSchema

SCHEMA = TableSchema(
    name="scale",
    sparse=("item", "category"),
    candidate=("item", "category"),
    streams=(
        Events("view", ids=("item", "category"), dense=(DenseFeature("amount", log1p=True),)),
    ),
    vocabularies={"item": Built(min_count=2)},
)
"""


def make_tables(directory: pathlib.Path, kind: str, events: int) -> list[str]:
    """Write impressions and events; returns the arguments that build a data set of them."""
    items = 100_000
    (directory / "schema.py").write_text(SCHEMA)
    # Popular items and lively users: powers of uniform numbers.
    common = (
        f"{_user(events)} AS user, 1700000000 + hash(i + 7) % 31536000 AS time, "
        f"CAST(floor(pow((hash(i + 1) % 1000003) / 1000003.0, 3) * {items}) AS BIGINT) AS item, "
        "'c' || (item % 300) AS category"
    )
    tables = {
        "impressions": (events // 10, FIRST_IMPRESSION, f"{LABEL} AS label"),
        "events": (events, 0, "round((hash(i + 5) % 10000) / 100.0, 2) AS amount"),
    }
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        for name, (count, first, extra) in tables.items():
            connection.execute(
                f"COPY (SELECT {common}, {extra} FROM range({first}, {first + count}) AS r(i)) "
                f"TO '{directory / f'{name}.{kind}'}' (FORMAT {kind})"
            )
    return [
        f"--schema={directory / 'schema.py'}",
        f"--impressions={directory / f'impressions.{kind}'}",
        f"--events={directory / f'events.{kind}'}",
        f"--memory_gb={_MEMORY.value}",
    ]


def expected_counts(events: int) -> dict[str, int]:
    """Count what is in those tables, by the formulas they are made of."""
    impressions = f"range({FIRST_IMPRESSION}, {FIRST_IMPRESSION + events // 10}) AS r(i)"
    views = f"(SELECT {_user(events)} AS user FROM range({events}) AS r(i))"
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        connection.execute(
            f"CREATE TABLE users AS SELECT DISTINCT {_user(events)} AS user FROM {impressions}"
        )
        counted = connection.execute(
            f"SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM {impressions}), "
            f"(SELECT sum({LABEL}) FROM {impressions}), "
            f"(SELECT count(*) FROM {views} JOIN users USING (user))"
        ).fetchall()
    return dict(
        zip(("users", "examples", "positives", "events"), map(int, counted[0]), strict=True)
    )


def found_counts(manifest: dict[str, Any]) -> dict[str, int]:
    """Return the same numbers of a data set."""
    counts, rates = manifest["counts"], manifest["label_rates"]
    rows = counts["rows"]
    positives = sum(round(rate * rows[s]) for s in rows for rate in rates[s].values())
    examples, events = sum(rows.values()), sum(counts["events"].values())
    return {
        "users": counts["users"],
        "examples": examples,
        "positives": positives,
        "events": events,
    }


def _user(events: int) -> str:
    """Return SQL for the user of row i."""
    rank = f"pow((hash(i) % 1000003) / 1000003.0, 2) * {max(events // 100, 1)}"
    return f"'u' || CAST(floor({rank}) AS BIGINT)"


def synthetic_arguments(events: int) -> list[str]:
    """Return the arguments that build synthetic data of about this many events."""
    options = {
        "num_users": max(events // SYNTHETIC_EVENTS_PER_USER, 1),
        "num_items": 100_000,
        "num_categories": 300,
        "num_train": events // 10,
        "num_validation": events // 100,
        "num_test": events // 100,
    }
    return ["--source=synthetic", f"--options={json.dumps(options)}", "--num_shards=32"]


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run a build; return its seconds, processor seconds and peak memory."""
    command = [sys.executable, "-m", "kunlun_jax.data.build", *arguments]
    start, processor, peak = time.perf_counter(), 0.0, 0
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT
        ) as process:
            while process.poll() is None:
                memory, used = _tree(process.pid)
                peak, processor = max(peak, memory), max(processor, used)
                time.sleep(POLL_SECONDS)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}: {errors.read().strip().splitlines()[-1:]}")
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": processor,
        "peak_bytes": peak,
    }


def _tree(root: int) -> tuple[int, float]:
    """Return resident bytes and processor seconds of a process and its descendants.

    Descendants that have ended count through the processor time of their parents.
    """
    page, tick = 4096, 100.0
    processes = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        processes[int(path.parent.name)] = fields
    memory, processor, members = 0, 0.0, [root]
    while members:
        pid = members.pop()
        members += [child for child, fields in processes.items() if int(fields[1]) == pid]
        if pid in processes:
            fields = processes[pid]
            memory += int(fields[21]) * page
            processor += sum(int(value) for value in fields[11:15]) / tick
    return memory, processor


def main(argv: list[str]) -> None:
    """Measure every kind and number of workers, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    rows = []
    print(f"{'kind':>9} {'workers':>7} {'events':>11} {'input MB':>8} {'s':>7} {'CPU s':>7} "
          f"{'events/s':>9} {'per core':>9} {'peak MB':>8}")  # fmt: skip
    for kind in _KINDS.value:
        with tempfile.TemporaryDirectory(dir=_SCRATCH.value) as name:
            for row in measure_kind(kind, pathlib.Path(name)):
                rows.append(row)
                print(f"{kind:>9} {row['workers']:>7} {row['events']:>11,} "
                      f"{row['input_bytes'] / 1e6:>8.0f} {row['seconds']:>7.1f} "
                      f"{row['processor_seconds']:>7.1f} {row['events_s']:>9.0f} "
                      f"{row['events_processor_s']:>9.0f} {row['peak_bytes'] / 1e6:>8.0f}",
                      flush=True)  # fmt: skip
                _write(rows)


def measure_kind(kind: str, directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Build data sets from the same input by different numbers of workers.

    Raises:
        SystemExit: If they do not have the same bytes, or not what went into the tables.
    """
    events = _EVENTS.value
    if kind == "synthetic":
        arguments, expected = synthetic_arguments(events), None
    else:
        arguments, expected = make_tables(directory, kind, events), expected_counts(events)
    size = sum(path.stat().st_size for path in directory.iterdir())
    first = None
    for workers in _WORKERS.value:
        out = directory / f"workers-{workers}"
        # The direct runner that runs in this very process, whichever Beam prefers.
        how = ["--beam", "--", "--runner=FnApiRunner"] if workers == "beam" else []
        how = how or [f"--workers={int(workers)}"]
        result = measure([*arguments, f"--out={out}", *how])
        manifest = json.loads((out / "dataset.json").read_text())
        counts = found_counts(manifest)
        if expected not in (None, counts):
            raise SystemExit(f"{kind}: expected {expected}, got {counts}")
        content = [manifest["files"], manifest.get("vocabularies")]
        if first not in (None, content):
            raise SystemExit(f"{kind}: {workers} workers: other bytes than the first ones")
        first = content
        yield {
            "kind": kind,
            "workers": workers,
            **counts,
            "shards": len(manifest["files"]),
            "input_bytes": size,
            **result,
            "events_s": counts["events"] / result["seconds"],
            "events_processor_s": counts["events"] / result["processor_seconds"],
        }


def _write(rows: list[dict[str, Any]]) -> None:
    content = {
        "benchmark": "build_scale",
        "command": shlex.join(["python", "-m", "benchmarks.build_scale", *_arguments()]),
        "memory_gb": _MEMORY.value,
        "rows": rows,
        "environment": environment(("numpy", "pyarrow", "array-record", "duckdb")),
    }
    write_json(pathlib.Path(_OUT.value), content)


def _arguments() -> list[str]:
    """Return the command's arguments without the places of this machine."""
    return [a for a in sys.argv[1:] if not a.startswith(("--scratch", "--out"))]


if __name__ == "__main__":
    app.run(main)
