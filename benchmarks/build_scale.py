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
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import app, flags

from benchmarks.event_tables import expected_counts, found_counts, make_tables
from benchmarks.processes import measure
from benchmarks.report import RESULTS, environment, write_json

_EVENTS = flags.DEFINE_integer("events", 10_000_000, "Events, about.")
_KINDS = flags.DEFINE_list("kinds", ["synthetic", "parquet", "csv"], "What is built.")
_WORKERS = flags.DEFINE_list("workers", ["1", "4"], "Numbers of workers to measure, or beam.")
_MEMORY = flags.DEFINE_float("memory_gb", 2.0, "What joins and sorts may take, in GB.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Directory for inputs and data sets.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "build_scale.json"), "Where the JSON goes.")
# What `synthetic` makes on average: three streams whose users are active to three degrees.
SYNTHETIC_EVENTS_PER_USER = 167


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
        arguments.append(f"--memory_gb={_MEMORY.value}")
    size = sum(path.stat().st_size for path in directory.iterdir())
    first = None
    for workers in _WORKERS.value:
        out = directory / f"workers-{workers}"
        # The direct runner that runs in this very process, whichever Beam prefers.
        how = ["--beam", "--", "--runner=FnApiRunner"] if workers == "beam" else []
        how = how or [f"--workers={int(workers)}"]
        program = [sys.executable, "-m", "kunlun_jax.data.build"]
        result = measure([*program, *arguments, f"--out={out}", *how])
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
    """Return the command's arguments without the directories of this machine."""
    return [a for a in sys.argv[1:] if not a.startswith(("--scratch", "--out"))]


if __name__ == "__main__":
    app.run(main)
