"""How fast the attention kernels are on this machine's GPU, and what else there is.

    python -m benchmarks.kernels [--budget_seconds=540] [--goals_only] [--notorch]

In this order: the two ceilings (a large matrix product and a large copy), the correctness of every
operation and gradient (an error ends the run), the times of the kernels and of their baselines,
those of PyTorch. Where the time budget runs out, the rest is listed as skipped. Prints the table
last and writes it to benchmarks/results/. `--dry_run` walks the same way on a CPU, with tiny
shapes and the kernels in interpret mode; its times mean nothing.

Needs jax[cuda], absl and, for its rows, PyTorch. "x roof" is the time over the roofline time (see
`benchmarks/roofline.py`), "/ name" the time of a baseline over that of the kernels. Backward passes
count 2.5 times the products of the forward pass, as published figures do, and are timed by
themselves, on what a forward pass has saved.
"""

import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from absl import app, flags

from benchmarks import kernel_measurements, torch_baselines
from benchmarks.kernel_table import counted, missed_targets, print_table
from benchmarks.report import RESULTS, environment, write_json
from benchmarks.roofline import Ceilings
from benchmarks.workloads import CHECKED, DRY, WORKLOADS, Workload
from pallas_kernels.timing import Budget

_IMPLEMENTATION = flags.DEFINE_enum(
    "implementation", "triton", ["triton", "triton_interpret"], "Of the kernels."
)
_BUDGET = flags.DEFINE_float("budget_seconds", 540, "After it, what is left is skipped.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Tiny shapes on the CPU, for a test of the program.")
_GOALS_ONLY = flags.DEFINE_bool("goals_only", False, "Only the shapes with goals.")
_TORCH = flags.DEFINE_bool("torch", True, "Whether PyTorch's times are measured too.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")

# Share of the budget for PyTorch, whose compiler takes seconds for each shape.
_TORCH_SHARE = 0.25
# Seconds that a part may overrun its budget before it is stopped.
_GRACE = 20


def run_part(target: Callable[..., None], arguments: tuple[Any, ...], seconds: float) -> str | None:
    """Run a part in a process of its own; return why it did not end well, or None."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(seconds + _GRACE)
    if process.is_alive():
        process.kill()
        process.join()
        return f"stopped {_GRACE} s after its time budget"
    return None if process.exitcode == 0 else f"ended with status {process.exitcode}"


def measure(workloads: tuple[Workload, ...], checked: tuple[Workload, ...]) -> list[dict[str, Any]]:
    """Run both parts and return their records.

    Raises:
        SystemExit: a kernel is wrong, or there is no GPU.
    """
    left = Budget(_BUDGET.value)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "records"
        path.touch()
        seconds = left.left * (1 - _TORCH_SHARE * _TORCH.value)
        # PyTorch's turn comes when this process has given its memory back.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
        arguments = (workloads, checked, _IMPLEMENTATION.value, path, seconds, _DRY_RUN.value)
        failure = run_part(kernel_measurements.run, arguments, seconds)
        records = read(path)
        errors = [record["error"] for record in records if "error" in record]
        if errors:
            raise SystemExit(f"nothing was timed: {errors[0]}")
        if failure:
            print(f"the JAX part {failure}", file=sys.stderr)
            records.append({"failure": f"the JAX part {failure}"})
        if not _TORCH.value:
            return records
        seconds = max(left.left - 2 * _GRACE, 0.0)
        path.write_text("")
        failure = run_part(torch_baselines.run, (workloads, path, seconds), seconds)
        records += read(path)
        if failure:
            print(f"the PyTorch part {failure}", file=sys.stderr)
            records.append({"failure": f"the PyTorch part {failure}"})
    return records


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the records of a file; a last line that was cut off is dropped."""
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def main(argv: list[str]) -> None:
    """Measure, write the JSON, print the table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _DRY_RUN.value:
        os.environ["JAX_PLATFORMS"] = "cpu"
        flags.FLAGS.implementation = "triton_interpret"
    workloads, checked = (DRY, DRY[1:3]) if _DRY_RUN.value else (WORKLOADS, CHECKED)
    if _GOALS_ONLY.value:
        workloads = tuple(workload for workload in workloads if workload.is_target)
    records = measure(workloads, checked)
    found = {
        key: record[key] for record in records for key in ("device", "ceilings") if key in record
    }
    ceilings = Ceilings(**found["ceilings"])
    rows = counted(workloads, records, ceilings)
    content = {
        "benchmark": "kernels",
        "dry_run": _DRY_RUN.value,
        "device": found["device"],
        "implementation": _IMPLEMENTATION.value,
        "ceilings": found["ceilings"],
        "errors": {r["checked"]: r["errors"] for r in records if "checked" in r},
        "failures": [r["failure"] for r in records if "failure" in r],
        "rows": rows,
        "torch": found.get("torch"),
        "environment": environment(("jax", "jaxlib", "numpy")),
    }
    if _OUT.value or not _DRY_RUN.value:  # a dry run never stands among the results
        write_json(pathlib.Path(_OUT.value or RESULTS / "kernels.json"), content)
    print_table(rows, found["device"], ceilings)
    if _DRY_RUN.value:
        print("a dry run: its times mean nothing")
    missed = missed_targets(rows)
    if missed:
        print(f"{len(missed)} targets not met: " + "; ".join(missed))
    if content["failures"] or any(row["seconds"] is None for row in rows):
        sys.exit("some kernels have no time; see above")


if __name__ == "__main__":
    app.run(main)
