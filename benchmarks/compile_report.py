"""What the compiler makes of every kernel at every tile choice, for GPUs that are not attached.

    pip install -e ".[aot]"
    python -m benchmarks.compile_report                       # H200 and B200
    python -m benchmarks.compile_report --gpu=a6000 --out=/tmp/a6000.json

Compiles each kernel with the tiles of the table's section "default" and with those of the GPU's own
section, and prints registers, spills, shared memory, matrix instructions and, of the main loop, the
instructions issued for each score ("issues") and the products executed over those needed ("dupl").
Ends with exit code 1 where a choice does not compile or spills (f32 at precision "highest" may);
and in bf16, with a GPU's own choices, where products run one at a time or are computed twice, or
miss the GPU's matrix instruction at head dim 64 or 128. `benchmarks/tile_search.py` looks for
better tiles.

A kernel takes 2 to 5 seconds of one core. What the JSON already says of the same Triton IR and the
same versions of the compilers is not compiled again.
"""

import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from absl import app, flags

from benchmarks import kernel_cases
from benchmarks.compile_results import (
    Known,
    Result,
    compile_case,
    compilers,
    read_known,
    readers,
    report_path,
    require_compiler,
)
from benchmarks.kernel_cases import Case
from benchmarks.report import environment, write_json
from kunlun_jax.plan import absent_gpu

_GPU = flags.DEFINE_list("gpu", ["h200", "b200"], f"Of {', '.join(absent_gpu.GPUS)}.")
_KERNEL = flags.DEFINE_list("kernel", [], "Names of kernels, or their beginnings; none: all.")
_FORMAT = flags.DEFINE_list("format", list(kernel_cases.FORMATS), "Inputs and precision.")
_HEAD_DIM = flags.DEFINE_list("head_dim", list(map(str, kernel_cases.HEAD_DIMS)), "Head dims.")
_SECTION = flags.DEFINE_list("section", ["default", "own"], "Sections of the table.")
_THREADS = flags.DEFINE_integer("threads", 2, "Kernels to compile at the same time.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")


def cases_of_table(gpu: str) -> Iterator[tuple[tuple[str, ...], Case]]:
    """List what the table gives a GPU, each with the sections that give it."""
    found: dict[tuple, tuple[list[str], Case]] = {}
    sections = {"default": "default", "own": absent_gpu.GPUS[gpu].capability}
    for section in [sections[name] for name in _SECTION.value]:
        for format, head_dim in itertools.product(_FORMAT.value, map(int, _HEAD_DIM.value)):
            for case in kernel_cases.launches(section, format, head_dim):
                found.setdefault(case.code, ([], case))[0].append(section)
    for sections, case in found.values():
        if case.kernel.startswith(tuple(_KERNEL.value) or ""):
            yield tuple(sections), case


def compile_all(
    cases: Iterable[tuple[str, tuple[str, ...], Case]], known: Known
) -> Iterator[Result]:
    """Compile what is not known, some at a time, in order."""
    with ThreadPoolExecutor(_THREADS.value) as pool:
        try:
            yield from pool.map(lambda arguments: compile_case(*arguments, known), cases)
        finally:
            pool.shutdown(cancel_futures=True)


def print_row(result: Result) -> None:
    """Print one line of the table."""
    case, code = result.case, result.code
    kernel = case.kernel + (" rotated" if case.rotated else "")
    tile = case.tile if case.kernel == "gdpa_forward" else case.tile[:4]
    line = (
        f"{result.gpu:5} {kernel:42} {case.format:11} {case.head_dim:4} {case.rows:5} "
        f"{case.keys:5} {','.join(map(str, tile)):>18}"
    )
    if code is None:
        print(f"{line}  {result.error}", flush=True)
        return
    tensor = " ".join(f"{name}:{count}" for name, count in code.tensor_ptx.items()) or "none"
    print(
        f"{line} {code.registers:4} {code.spill_bytes:6} {code.shared_bytes:7} "
        f"{code.tensor_columns:4} {code.load_bytes[1]:4} {result.issues:6.1f} "
        f"{result.duplication:5.2f} {'yes' if code.serialized else 'no':>6}  {tensor}",
        flush=True,
    )


def write(path: pathlib.Path, results: list[Result]) -> None:
    """Write the JSON, one kernel a line."""
    content = {
        "benchmark": "compile_report",
        "environment": environment(("jax", "jaxlib")),
        "compilers": compilers(),
        "readers": readers(),
        "num_faults": sum(len(result.faults()) for result in results),
        "kernels": [result.record() for result in results],
    }
    write_json(path, content)


def _asked_for(result: Result) -> bool:
    """Return whether the flags ask for a kernel; what they do not ask for stays in the JSON."""
    case = result.case
    own = absent_gpu.GPUS[result.gpu].capability
    sections = {"own" if section == own else section for section in result.sections}
    return (
        result.gpu in _GPU.value
        and case.kernel.startswith(tuple(_KERNEL.value) or "")
        and case.format in _FORMAT.value
        and str(case.head_dim) in _HEAD_DIM.value
        and sections <= set(_SECTION.value)
    )


def main(argv: list[str]) -> None:
    """Compile, print, write."""
    require_compiler(argv)
    cases = ((gpu, sections, case) for gpu in _GPU.value for sections, case in cases_of_table(gpu))
    print(
        f"{'gpu':5} {'kernel':42} {'format':11} {'H':>4} {'rows':>5} {'keys':>5} {'tile':>18} "
        f"{'regs':>4} {'spill':>6} {'shared':>7} {'tmem':>4} {'load':>4} "
        f"{'issues':>6} {'dupl':>5} {'serial':>6}  matrix products"
    )
    out, results = pathlib.Path(_OUT.value or report_path()), []
    known = read_known(out)
    try:
        for result in compile_all(cases, known):
            print_row(result)
            results.append(result)
        known = {key: result for key, result in known.items() if not _asked_for(result)}
    finally:  # interrupted, it keeps what it knows
        done = {(result.gpu, result.case.code): result for result in results}
        write(out, list((known | done).values()))
    faulty = [(result, fault) for result in results for fault in result.faults()]
    for result, fault in faulty:
        case = result.case
        print(
            f"FAULT {result.gpu} {case.kernel} {case.format} H={case.head_dim} {case.tile}: {fault}"
        )
    print(f"{len(results)} kernels, {len(faulty)} faults")
    sys.exit(bool(faulty))


if __name__ == "__main__":
    app.run(main)
