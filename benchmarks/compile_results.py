"""Kernels compiled for GPUs that are not attached, and what is kept of them in a report.

See `benchmarks/compile_report.py` for the program.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
from absl import app

import pallas_kernels
from benchmarks import kernel_cases, machine_code, main_loop
from benchmarks.kernel_cases import Case
from benchmarks.main_loop import MainLoop
from benchmarks.report import RESULTS
from kunlun_jax.plan import absent_gpu
from pallas_kernels.tile_choices import Tile

_COMPILERS = ("jax", "jaxlib", "jax-cuda13-plugin", "nvidia-cuda-nvcc")


class Result(NamedTuple):
    """One compiled kernel.

    Attributes:
        gpu: a key of `GPUS`.
        sections: of the table that give this tile.
        case: what was compiled.
        code: what came out, or None.
        error: why nothing came out.
    """

    gpu: str
    sections: tuple[str, ...]
    case: Case
    code: machine_code.MachineCode | None
    error: str

    def faults(self) -> list[str]:
        """Return what is wrong with the tile."""
        if self.code is None:
            return [self.error]
        faults = []
        gpu, case, code = absent_gpu.GPUS[self.gpu], self.case, self.code
        if code.spill_bytes and case.format != "f32_highest":
            faults.append(f"spills {code.spill_bytes} bytes")
        if code.shared_bytes > gpu.shared_memory:
            faults.append(
                f"needs {code.shared_bytes} of {gpu.shared_memory} bytes of shared memory"
            )
        # The rest is asked of what the GPU runs: its own section overrules "default".
        if gpu.capability not in self.sections or case.format != "bf16":
            return faults
        if code.serialized:
            faults.append("runs wgmma one at a time (ptxas C7515)")
        # At 256 the sums of a tile that is large enough for all warps do not fit the registers.
        if self.duplication > 1 and case.head_dim <= 128:
            faults.append(f"executes {self.duplication:.2f} times the products that it needs")
        if case.head_dim in (64, 128):
            for wanted, names in (
                (gpu.tensor_ptx, code.tensor_ptx),
                (gpu.tensor_sass, code.tensor_sass),
            ):
                if wanted not in names:
                    faults.append(f"no {wanted}, but {names or 'no matrix instruction'}")
        return faults

    @property
    def issues(self) -> float:
        """Instructions that threads issue in the main loop, for each score; 0 without a loop."""
        if self.code is None or self.code.loop is None:
            return 0.0
        return self.code.loop.instructions * self.code.threads / self.case.scores_of_turn

    @property
    def duplication(self) -> float:
        """Multiply-adds of the main loop over those that it needs; 0 without a loop."""
        if self.code is None or self.code.loop is None:
            return 0.0
        return self.code.loop.multiply_adds / self.case.multiply_adds_of_turn

    def record(self) -> dict[str, Any]:
        """Return the JSON of the result."""
        code: dict[str, Any] = {"error": self.error}
        if self.code is not None:
            code = self.code._asdict()
            code["loop"] = self.code.loop and self.code.loop._asdict()
        return {"gpu": self.gpu, "sections": self.sections, **self.case._asdict(), **code}

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Result":
        """Undo `record`."""
        case = Case(*(record[name] for name in Case._fields))
        case = case._replace(tile=Tile(*case.tile))
        code, error = None, record.get("error", "")
        if not error:
            fields = {name: record[name] for name in machine_code.MachineCode._fields}
            fields["loop"] = fields["loop"] and MainLoop(**fields["loop"])
            code = machine_code.MachineCode(**fields)
        return cls(record["gpu"], tuple(record["sections"]), case, code, error)


def require_compiler(argv: list[str]) -> None:
    """Refuse arguments that are no flags, and end where the compiler's packages are missing.

    Args:
        argv: What the flags leave of the command line.
    """
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    try:
        absent_gpu.require_packages()
    except absent_gpu.MissingPackagesError as error:
        sys.exit(f"error: expected pip install -e '.[aot]', without it there is no {error}")


def compile_case(gpu: str, sections: tuple[str, ...], case: Case) -> Result:
    """Compile one kernel; what the compiler complains of becomes part of the result."""
    function, arguments = kernel_cases.program(case)
    try:
        arguments = absent_gpu.on_one_device(gpu, arguments)
        compiled = absent_gpu.compile_for(gpu, function, *arguments)
        return Result(gpu, sections, case, machine_code.read(compiled, case.kernel), "")
    except (RuntimeError, ValueError) as error:
        return Result(gpu, sections, case, None, str(error).strip().splitlines()[0][:200])


def results_of(
    gpu: str, cases: Iterable[Case], known: Mapping[tuple[str, Case], Result]
) -> list[Result]:
    """Return the results of cases whose lengths may differ from those of what is known."""
    of_code = {(known_gpu, case.code): result for (known_gpu, case), result in known.items()}
    results = []
    for case in cases:
        found = of_code.get((gpu, case.code))
        results.append(found._replace(case=case) if found else compile_case(gpu, (), case))
    return results


def report_path() -> pathlib.Path:
    """Return where the report of this JAX is kept: each version compiles in its own way."""
    return RESULTS / f"compile_report_jax_{jax.__version__}.json"


def compilers() -> dict[str, str]:
    """Return the versions that machine code depends on."""
    return {name: importlib.metadata.version(name) for name in _COMPILERS}


def sources() -> dict[str, str]:
    """Return a hash of the sources that code and figures depend on, by operation."""
    root = pathlib.Path(pallas_kernels.__file__).parent
    shared = [root / name for name in ("activations.py", "launch.py", "tiles.py")]
    readers = [pathlib.Path(module.__file__) for module in (machine_code, main_loop)]
    hashes = {}
    for backward in sorted(root.glob("*/backward.py")):
        files = [*shared, *readers, backward.with_name("forward.py"), backward]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files))
        hashes[backward.parent.name] = digest.hexdigest()[:16]
    return hashes


def read_known(path: pathlib.Path) -> dict[tuple[str, Case], Result]:
    """Read the results of an earlier run that still hold."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["compilers"] != compilers():
        return {}
    unchanged = tuple(dict(content["sources"].items() & sources().items()))
    results = (
        Result.of(record) for record in content["kernels"] if record["kernel"].startswith(unchanged)
    )
    return {(result.gpu, result.case): result for result in results}
