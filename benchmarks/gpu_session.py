"""Everything that a few minutes on a GPU should answer, in one command.

    python -m benchmarks.gpu_session --out=/tmp/gpu              # on a GPU: at most 8 minutes
    python -m benchmarks.gpu_session --out=/tmp/gpu --dry_run    # the same way on a CPU, for a test

In this order, each with a time limit of its own, so that one that hangs costs the others nothing:
the kernels' contract on the device (90 s), the shapes with goals (200 s), the backward kernels'
tiles at head dim 128 (150 s). What each prints goes to a file in the folder, with its results;
`session.json` says how each ended. Exits with status 1 where one did not end well.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time
from typing import Any, NamedTuple

from benchmarks.report import ROOT, environment, write_json
from pallas_kernels.tune import KERNELS

# The part of a limit in which the program ends by itself.
_MARGIN_SECONDS = 10


class Step(NamedTuple):
    """A program with a time limit.

    Attributes:
        name: of the file with what it prints.
        arguments: of Python.
        seconds: after which it is stopped.
    """

    name: str
    arguments: list[str]
    seconds: float


def steps(out: pathlib.Path, dry_run: bool) -> list[Step]:
    """Return what is run, most important first."""
    chosen = "triton_interpret" if dry_run else "triton and not triton_interpret"
    contract = ["tests/pallas_kernels/test_seed_attention.py"] if dry_run else []
    contract = contract or ["tests/pallas_kernels"]
    only = f"{chosen} and padding" if dry_run else chosen
    backward = ",".join(kernel for kernel in KERNELS if "_backward" in kernel)
    goals = ["-m", "benchmarks.kernels", "--goals_only", "--notorch", f"--out={out}/kernels.json"]
    tune = ["-m", "pallas_kernels.tune", f"--kernels={backward}", "--head-dims=128"]
    return [
        Step(
            "contract",
            ["-m", "pytest", "-q", *contract, "-k", only, f"--junitxml={out}/contract.xml"],
            600 if dry_run else 90,
        ),
        Step(
            "goals",
            [*goals, f"--budget_seconds={200 - _MARGIN_SECONDS}", *["--dry_run"] * dry_run],
            600 if dry_run else 200,
        ),
        Step(
            "tune",
            [*tune, f"--budget-seconds={150 - _MARGIN_SECONDS}", f"--table={out}/tuned_tiles.json"],
            150,
        ),
    ]


def run(step: Step, out: pathlib.Path) -> dict[str, Any]:
    """Run a step; return how it ended."""
    start, path = time.monotonic(), out / f"{step.name}.txt"
    print(f"{step.name}: at most {step.seconds:.0f} s, into {path}", flush=True)
    with path.open("w") as file:
        try:
            process = subprocess.run(
                [sys.executable, *step.arguments],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=step.seconds,
                check=False,
            )
            status: int | str = process.returncode
        except subprocess.TimeoutExpired:
            status = f"stopped after {step.seconds:.0f} s"
    lines = path.read_text(errors="replace").strip().splitlines()
    last = lines[-1][:200] if lines else "(nothing printed)"
    print(f"{step.name}: status {status}; {last}", flush=True)
    return {
        "step": step.name,
        "status": status,
        "seconds": time.monotonic() - start,
        "last_line": last,
    }


def main(argv: list[str]) -> None:
    """Run all steps and write how they ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_session")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the results")
    parser.add_argument("--dry_run", action="store_true", help="tiny shapes on the CPU")
    arguments = parser.parse_args(argv)
    out, dry_run = arguments.out.resolve(), arguments.dry_run
    out.mkdir(parents=True, exist_ok=True)
    if dry_run:
        os.environ["JAX_PLATFORMS"] = "cpu"
    ended = []
    for step in steps(out, dry_run):
        ended.append(run(step, out))
        content = {"benchmark": "gpu_session", "dry_run": dry_run, "steps": ended}
        write_json(out / "session.json", content | {"environment": environment(("jax", "jaxlib"))})
    sys.exit(any(step["status"] != 0 for step in ended))


if __name__ == "__main__":
    main(sys.argv[1:])
