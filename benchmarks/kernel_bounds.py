"""What the compiled kernels can reach at best and at worst, without a GPU, beside the goals.

    pip install -e ".[aot]"
    python -m benchmarks.kernel_bounds

For every shape with a goal, the kernels that run are compiled for a GPU that is not attached, and
what their main loops execute is counted: matrix products, instructions, special functions, shared
memory. With the rates below that gives a time for each resource, and with the bytes that each
kernel and each pass of XLA around it moves, a time for memory. "Least" lets everything overlap
within a kernel; "most" lets products and instructions follow each other, while memory streams
beside them. Kernels and passes follow each other in both. A goal is met where "most" is within it,
missed where "least" is not, and open in between. These are estimates from counts, no measurements:
cache misses, launches and tails are not in them, and ROTE counts as two passes of its own, where
XLA may fuse it into what writes queries and keys.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import app

from benchmarks import compile_results
from benchmarks.compile_results import Result
from benchmarks.kernel_cases import Case, table_name
from benchmarks.kernel_table import MOST_ROOFLINES
from benchmarks.main_loop import MainLoop
from benchmarks.report import RESULTS, environment, write_json
from benchmarks.roofline import Ceilings
from benchmarks.workloads import DIRECTIONS, WORKLOADS, Workload, cost
from kunlun_jax.plan import absent_gpu
from pallas_kernels.gdpa import backward as gdpa_backward
from pallas_kernels.tile_choices import Tile, choices_for, choose
from pallas_kernels.tiles import num_tiles


class Rates(NamedTuple):
    """What a GPU does in a second.

    Attributes:
        ceilings: of bf16 products and of memory.
        multiprocessors: number of them.
        clock: Hz, at which the data sheet's rate of products holds.
        full_rows: rows of a product's instruction at the full rate; fewer take as long.
    """

    ceilings: Ceilings
    multiprocessors: int
    clock: float
    full_rows: int


# H200: ceilings as measured on one (8192^3 product, 8 GB copy). B200: the data sheet's.
RATES = {
    "h200": Rates(Ceilings(790e12, 4.3e12), 132, 1.83e9, 64),
    "b200": Rates(Ceilings(2250e12, 7.7e12), 148, 1.85e9, 128),
}
# A multiprocessor does in a clock: threads that issue, special functions, shared-memory bytes.
ISSUE, _SPECIAL, _SHARED_BYTES = 128, 16, 128
# A warp's access to shared memory: 16 bytes a thread.
_ACCESS_BYTES = 512
# Goals of the other GPU for GDPA; `MOST_ROOFLINES` is what is measured on an H200.
B200_GOALS = {("gdpa", "forward"): 2.0, ("gdpa", "backward"): 2.5}


class Run(NamedTuple):
    """A kernel as a workload runs it.

    Attributes:
        case: what is compiled.
        scores: computed in all, those of padding and beyond the window included.
        bytes: that it reads and writes.
    """

    case: Case
    scores: float
    bytes: float


def runs(workload: Workload, direction: str) -> Iterator[Run]:
    """List the kernels that a workload launches, in order."""
    w = workload
    row_bytes = 2 * w.heads * w.head_dim
    rows_bytes, keys_bytes = w.batch * w.rows * row_bytes, w.batch * w.keys * row_bytes
    numbers = 4 * w.batch * w.rows * w.heads
    name = {"gdpa": "gdpa", "window": "window_attention", "seed": "seed_attention"}[w.operation]
    if direction == "forward":
        moved = {"gdpa": 2 * rows_bytes + 2 * keys_bytes, "window": 4 * rows_bytes + numbers}
        moved["seed"] = rows_bytes + 2 * keys_bytes + numbers
        yield _run(w, f"{name}_forward", moved[w.operation])
    elif w.operation == "gdpa":
        if gdpa_backward.takes_one_pass(w.keys, _tile(w, "gdpa_backward")):
            yield _run(w, "gdpa_backward", 3 * rows_bytes + 4 * keys_bytes)
            return
        yield _run(w, "gdpa_backward_keys", 2 * rows_bytes + 4 * keys_bytes)
        yield _run(w, "gdpa_backward_queries", 3 * rows_bytes + 2 * keys_bytes)
    elif w.operation == "window":
        yield _run(w, "window_attention_backward_queries", 6 * rows_bytes + 2 * numbers)
        yield _run(w, "window_attention_backward_keys", 6 * rows_bytes + 2 * numbers)
    elif w.rows <= _tile(w, "seed_attention_backward").block_q:
        # The seeds' gradient leaves in f32, for the sum over the batch.
        moved = 3 * rows_bytes + 4 * keys_bytes + 2 * numbers
        yield _run(w, "seed_attention_backward", moved)
    else:
        moved = 3 * rows_bytes + 2 * keys_bytes + 2 * numbers
        yield _run(w, "seed_attention_backward_seeds", moved)
        moved = rows_bytes + 4 * keys_bytes + 2 * numbers
        yield _run(w, "seed_attention_backward_keys", moved)


def bytes_around(workload: Workload, direction: str) -> float:
    """Return what XLA reads and writes before and after the kernels."""
    w = workload
    rows_bytes = w.batch * w.rows * w.heads * w.head_dim * 2
    if w.operation == "window" and direction == "forward":
        return 4 * rows_bytes * w.rotated  # the rotation of queries and keys
    if w.operation == "seed" and direction == "backward":
        return 2 * rows_bytes + 2 * rows_bytes  # delta from O and dO; the sum of the gradients
    return 0.0


def _sizes(workload: Workload, kernel: str) -> dict[str, Any]:
    keys = workload.keys
    if workload.operation == "window":
        keys = min(workload.rows, 2 * workload.window + 1)
    rotated = workload.rotated and kernel.startswith("window_attention_backward")
    return {"rows": workload.rows, "keys": keys, "rotated": rotated}


def _tile(workload: Workload, kernel: str) -> Tile:
    like = jnp.zeros((1, workload.head_dim), workload.dtype)
    return choose(table_name(kernel), like, **_sizes(workload, kernel))


def _run(workload: Workload, kernel: str, num_bytes: float) -> Run:
    w, tile, sizes = workload, _tile(workload, kernel), _sizes(workload, kernel)
    case = Case(kernel, "bf16", w.head_dim, sizes["rows"], sizes["keys"], sizes["rotated"], tile)
    row_tiles = num_tiles(w.rows, tile.block_q)
    pairs = row_tiles * num_tiles(w.keys, tile.block_kv)
    if w.operation == "window":
        own, other = tile.block_q, tile.block_kv
        if kernel.endswith("keys"):
            own, other = other, own
        pairs = tiles_in_windows(w.rows, w.window, own, other)
    scores = w.batch * w.heads * pairs * tile.block_q * tile.block_kv
    return Run(case, float(scores), float(num_bytes))


def tiles_in_windows(rows: int, window: int, own: int, other: int) -> int:
    """Return how many pairs of tiles the windows of a sequence reach."""
    starts = np.arange(0, rows, own)
    first = np.maximum(starts - window, 0) // other
    last = num_tiles(np.minimum(starts + own + window, rows), other)
    return int((last - first).sum())


def product_rate(loop: MainLoop, rates: Rates) -> float:
    """Return what the products of a loop can reach, in floating-point operations a second."""
    return rates.ceilings.flops_per_second * min(1.0, loop.tensor_rows / rates.full_rows)


def kernel_seconds(run: Run, result: Result, rates: Rates) -> dict[str, float]:
    """Return the time that each resource takes for a kernel, in seconds.

    Raises:
        ValueError: the kernel has no main loop to count in.
    """
    code = result.code
    if code is None or code.loop is None:
        raise ValueError(f"{run.case.kernel}: no main loop: {result.error}")
    loop, turns = code.loop, run.scores / run.case.scores_of_turn
    warps = code.threads // 32
    clocks = turns / (rates.multiprocessors * rates.clock)
    return {
        "products": 2 * turns * loop.multiply_adds / product_rate(loop, rates),
        "instructions": clocks * loop.instructions * code.threads / ISSUE,
        "special": clocks * loop.special * code.threads / _SPECIAL,
        "shared": clocks * loop.shared * warps * _ACCESS_BYTES / _SHARED_BYTES,
        "memory": run.bytes / rates.ceilings.bytes_per_second,
    }


def least_and_most(seconds: dict[str, float], serialized: bool) -> tuple[float, float]:
    """Return the time of a kernel with everything overlapping, and with what computes in a row."""
    most = max(seconds["products"] + seconds["instructions"], *seconds.values())
    return (most if serialized else max(seconds.values())), most


def verdict(least: float, most: float, goal: float | None) -> str:
    """Return what the bounds, in roofline times, say of a goal."""
    if goal is None:
        return ""
    return "met" if most <= goal else "open" if least <= goal else "missed"


def row(gpu: str, workload: Workload, direction: str, results: dict[Case, Result]) -> dict:
    """Return one line of the table, all in SI units."""
    rates = RATES[gpu]
    around = bytes_around(workload, direction) / rates.ceilings.bytes_per_second
    least = most = around
    kernels = []
    for run in runs(workload, direction):
        result = results[run.case]
        seconds = kernel_seconds(run, result, rates)
        assert result.code is not None
        low, high = least_and_most(seconds, result.code.serialized)
        least, most = least + low, most + high
        kernels.append(
            {
                "kernel": run.case.kernel,
                "tile": run.case.tile,
                "instructions_per_score": result.issues,
                "seconds": seconds,
            }
        )
    roofline = rates.ceilings.seconds(cost(workload, direction))
    goals = MOST_ROOFLINES if gpu == "h200" else B200_GOALS
    goal = goals.get((workload.operation, direction))
    return {
        "gpu": gpu,
        "workload": workload.name,
        "direction": direction,
        "roofline_seconds": roofline,
        "around_seconds": around,
        "least_rooflines": least / roofline,
        "most_rooflines": most / roofline,
        "goal": goal,
        "verdict": verdict(least / roofline, most / roofline, goal),
        "kernels": kernels,
    }


def main(argv: list[str]) -> None:
    """Compile what is not known, print the table, write it."""
    compile_results.require_compiler(argv)
    known = compile_results.read_known(compile_results.report_path())
    rows = []
    print(f"{'gpu':5} {'workload':34} {'':8} {'roof us':>8} {'least':>6} {'most':>6} {'goal':>5}")
    for gpu in RATES:
        for workload in (workload for workload in WORKLOADS if workload.is_target):
            for direction in DIRECTIONS:
                with choices_for(absent_gpu.GPUS[gpu].capability):
                    cases = [run.case for run in runs(workload, direction)]
                    found = {c: compile_results.compile_case(gpu, (), c, known) for c in cases}
                    rows.append(row(gpu, workload, direction, found))
                _print(rows[-1])
    write_json(
        RESULTS / "kernel_bounds.json",
        {
            "benchmark": "kernel_bounds",
            "environment": environment(("jax", "jaxlib")),
            "compilers": compile_results.compilers(),
            "rates": {gpu: rates._asdict() for gpu, rates in RATES.items()},
            "rows": rows,
        },
    )


def _print(row: dict[str, Any]) -> None:
    goal = "-" if row["goal"] is None else f"{row['goal']:.1f}"
    parts = "; ".join(
        f"{kernel['kernel']} {kernel['instructions_per_score']:.1f} a score, "
        + ", ".join(f"{name} {1e6 * value:.0f}" for name, value in kernel["seconds"].items())
        for kernel in row["kernels"]
    )
    print(
        f"{row['gpu']:5} {row['workload']:34} {row['direction']:8} "
        f"{1e6 * row['roofline_seconds']:8.0f} {row['least_rooflines']:6.2f} "
        f"{row['most_rooflines']:6.2f} {goal:>5} {row['verdict']:7} {parts}",
        flush=True,
    )


if __name__ == "__main__":
    app.run(main)
