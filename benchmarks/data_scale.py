"""Memory and speed of building, opening and training on data sets of growing size.

    python -m benchmarks.data_scale
    python -m benchmarks.data_scale --events=30_000_000 --sizes=1,3,10 --limit_gb=4 --steps=1000

Every stage is a process of its own, by the command line that a user would give; a data set is
built, its columns are made, and a small model trains on it. Making and training have a limit on
memory of their own (RLIMIT_DATA, `benchmarks/processes.py` says why), and training begins with no
page of the columns in memory. Sizes train in turn, `--rounds` times: rates are compared within a
run. What stands under --scratch for the events of a size is about 100 bytes an event.
"""

import json
import os
import pathlib
import shlex
import statistics
import sys
import tempfile
from typing import Any

from absl import app, flags

from benchmarks.event_tables import make_tables
from benchmarks.processes import measure
from benchmarks.report import RESULTS, environment, write_json

_EVENTS = flags.DEFINE_integer("events", 10_000_000, "Events of the smallest data set, about.")
_SIZES = flags.DEFINE_list("sizes", ["1", "3", "10"], "Sizes, as multiples of it.")
_STEPS = flags.DEFINE_integer("steps", 200, "Steps of a training.")
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Trainings on each data set.")
_LIMIT = flags.DEFINE_float("limit_gb", 1.5, "RLIMIT_DATA of making columns and training, in GB.")
_WINDOW = flags.DEFINE_integer("shuffle_window", 0, "config.data.shuffle_window.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Directory for tables, data sets and runs.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "data_scale.json"), "Where the JSON goes.")
BATCH_SIZE, LOG_EVERY = 256, 10
# Small: what is measured is the data.
MODEL = (
    "--config.model.dim=16",
    "--config.model.num_layers=1",
    "--config.model.streams.view.num_layers=1",
    "--config.model.streams.view.model_dim=16",
    "--config.model.streams.view.mlp_dim=16",
    "--config.model.streams.view.max_len=64",
    "--config.model.head_dims=(16,)",
    "--config.training.eval_every=1000000",
    "--config.training.checkpoint_every=1000000",
)
OPEN = """
import sys, time
from kunlun_jax.data import Dataset
start = time.perf_counter()
dataset = Dataset.open(sys.argv[1])
opened = time.perf_counter()
dataset.columns.confirm()
print(opened - start, time.perf_counter() - opened, file=open(sys.argv[2], "w"))
"""


def build(directory: pathlib.Path, events: int) -> dict[str, Any]:
    """Build a data set and make its columns; returns what that took."""
    arguments = make_tables(directory, "parquet", events, held_out=0.0005)
    built = directory / "built"
    command = [sys.executable, "-m", "kunlun_jax.data.build", *arguments, f"--out={built}"]
    building = measure([*command, "--memory_gb=2"])
    for path in directory.glob("*.parquet"):
        path.unlink()
    making, _ = opened(directory)
    (columns,) = built.glob("columns-*.bin")
    again, seconds = opened(directory)
    manifest = json.loads((built / "dataset.json").read_text())
    return {
        "events": sum(manifest["counts"]["events"].values()),
        "examples": manifest["counts"]["rows"]["train"],
        "shards_bytes": sum(path.stat().st_size for path in built.glob("*.arrayrecord")),
        "columns_bytes": columns.stat().st_size,
        "build": building,
        "make_columns": making,
        "open": {**again, "open_seconds": seconds[0], "verify_seconds": seconds[1]},
    }


def opened(directory: pathlib.Path) -> tuple[dict[str, float], list[float]]:
    """Open a data set under the limit; returns what that took, and seconds to open and verify."""
    times = directory / "seconds"
    command = [sys.executable, "-c", OPEN, str(directory / "built"), str(times)]
    found = measure(command, data_limit=_limit())
    return found, [float(word) for word in times.read_text().split()]


def train(directory: pathlib.Path, examples: int, number: int) -> dict[str, Any]:
    """Train under the limit, from columns of which nothing is in memory."""
    built, workdir = directory / "built", directory / f"run-{number}"
    (columns,) = built.glob("columns-*.bin")
    forget_pages(columns)
    settings = {
        "batch_size": BATCH_SIZE,
        "num_epochs": _STEPS.value * BATCH_SIZE / examples,
        "shuffle_window": _WINDOW.value,
    }
    command = [
        sys.executable,
        "train.py",
        f"--config=configs/own_data.py:{built}",
        f"--workdir={workdir}",
        *MODEL,
        f"--config.training.log_every={LOG_EVERY}",
        *(f"--config.data.{name}={value}" for name, value in settings.items()),
    ]
    found = measure(command, data_limit=_limit())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    # Behind the first lines, which compile; half of the steps, of which the median.
    lines = [line for line in lines if "train/examples_per_second" in line]
    lines = lines[len(lines) // 2 :]
    rates = {
        key: statistics.median(line[f"train/{key}"] for line in lines)
        for key in ("examples_per_second", "examples_per_cpu_second")
    }
    return {**found, **rates}


def forget_pages(path: pathlib.Path) -> None:
    """Have the system drop what it has in memory of a file."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _limit() -> int:
    return int(_LIMIT.value * 2**30)


def main(argv: list[str]) -> None:
    """Measure every size, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    with tempfile.TemporaryDirectory(dir=_SCRATCH.value) as name:
        rows = []
        for size in map(int, _SIZES.value):
            directory = pathlib.Path(name, str(size))
            directory.mkdir()
            rows.append({"size": size, **build(directory, size * _EVENTS.value), "train": []})
            print(_described(rows[-1]), flush=True)
        for number in range(_ROUNDS.value):
            for row in rows:
                directory = pathlib.Path(name, str(row["size"]))
                row["train"].append(train(directory, row["examples"], number))
                print(f"{row['size']:>4}x: {_trained(row['train'][-1])}", flush=True)
                _write(rows)


def _described(row: dict[str, Any]) -> str:
    making, opening = row["make_columns"], row["open"]
    return (
        f"{row['size']:>4}x: {row['events']:,} events, {row['columns_bytes'] / 1e9:.2f} GB of "
        f"columns, made in {making['processor_seconds']:.0f} CPU s and {_megabytes(making)}; "
        f"opened in {opening['open_seconds']:.3f} s, verified in "
        f"{opening['verify_seconds']:.1f} s and {_megabytes(opening)}"
    )


def _trained(row: dict[str, Any]) -> str:
    return (
        f"{row['examples_per_second']:.0f} examples/s, {row['examples_per_cpu_second']:.0f} a CPU "
        f"second, in {_megabytes(row)}, {row['peak_bytes'] / 1e6:.0f} MB with mapped pages"
    )


def _megabytes(row: dict[str, Any]) -> str:
    return f"{row['peak_own_bytes'] / 1e6:.0f} MB of its own"


def _write(rows: list[dict[str, Any]]) -> None:
    arguments = [a for a in sys.argv[1:] if not a.startswith(("--scratch", "--out"))]
    content = {
        "benchmark": "data_scale",
        "command": shlex.join(["python", "-m", "benchmarks.data_scale", *arguments]),
        "limit": {"kind": "RLIMIT_DATA", "bytes": _limit()},
        "batch_size": BATCH_SIZE,
        "steps": _STEPS.value,
        "rows": rows,
        "environment": environment(("numpy", "jax", "pyarrow", "array-record", "duckdb")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
