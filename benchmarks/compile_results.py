"""Kernels compiled for GPUs that are not attached, and what is kept of them in a report.

See `benchmarks/compile_report.py` for the program.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from absl import app

from benchmarks import kernel_cases, machine_code, main_loop, triton_ir
from benchmarks.kernel_cases import Case
from benchmarks.main_loop import MainLoop
from benchmarks.report import RESULTS
from kunlun_jax.plan import absent_gpu
from pallas_kernels.tile_choices import Tile, choices_for

_COMPILERS = ("jax", "jaxlib", "jax-cuda13-plugin", "nvidia-cuda-nvcc")


class Result(NamedTuple):
    """One compiled kernel.

    Attributes:
        gpu: a key of `GPUS`.
        sections: of the table that give this tile.
        case: what was compiled.
        code: what came out, or None.
        error: why nothing came out.
        ir: digest of the kernel's IR.
    """

    gpu: str
    sections: tuple[str, ...]
    case: Case
    code: machine_code.MachineCode | None
    error: str
    ir: str = ""

    def faults(self, every_head_dim: bool = False) -> list[str]:
        """Return what is wrong with the tile.

        Args:
            every_head_dim: blame doubled products beyond H = 128 too, where the sums of a tile
                that is large enough for all warps do not fit the registers.
        """
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
        if self.duplication > 1 and (every_head_dim or case.head_dim <= 128):
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
        head = {"gpu": self.gpu, "sections": self.sections, "ir": self.ir}
        return {**head, **self.case._asdict(), **code}

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
        return cls(record["gpu"], tuple(record["sections"]), case, code, error, record["ir"])


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


# Results by GPU and `Case.code`.
Known = Mapping[tuple[str, tuple], Result]


def compile_case(
    gpu: str, sections: tuple[str, ...], case: Case, known: Known = types.MappingProxyType({})
) -> Result:
    """Compile one kernel; what the compiler complains of becomes part of the result.

    Args:
        gpu: a key of `GPUS`.
        sections: of the table that give this tile.
        case: what to compile.
        known: what has been compiled; it holds as long as its IR is what it was.
    """
    ir = ""
    try:
        found = known.get((gpu, case.code))
        if found is not None and triton_ir.digest(gpu, found.case) == found.ir:
            return found._replace(sections=sections)
        ir = triton_ir.digest(gpu, case)
        function, arguments = kernel_cases.program(case)
        arguments = absent_gpu.on_one_device(gpu, arguments)
        with choices_for(absent_gpu.GPUS[gpu].capability):
            compiled = absent_gpu.compile_for(gpu, function, *arguments)
        return Result(gpu, sections, case, machine_code.read(compiled, case.kernel), "", ir)
    except (RuntimeError, ValueError) as error:
        return Result(gpu, sections, case, None, str(error).strip().splitlines()[0][:200], ir)


def report_path() -> pathlib.Path:
    """Return where the report of this JAX is kept: each version compiles in its own way."""
    return RESULTS / f"compile_report_jax_{jax.__version__}.json"


def compilers() -> dict[str, str]:
    """Return the versions that machine code depends on."""
    return {name: importlib.metadata.version(name) for name in _COMPILERS}


def readers() -> str:
    """Return a hash of the sources that read machine code: figures are theirs too."""
    files = [pathlib.Path(module.__file__ or "") for module in (machine_code, main_loop)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def read_known(path: pathlib.Path) -> dict[tuple[str, tuple], Result]:
    """Read the results of an earlier run of the same compilers."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if (content["compilers"], content.get("readers")) != (compilers(), readers()):
        return {}
    results = map(Result.of, content["kernels"])
    return {(result.gpu, result.case.code): result for result in results}
