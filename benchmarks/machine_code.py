"""Read what a GPU's kernels need out of their machine code."""

import collections
import os
import pathlib
import re
import subprocess
import tempfile
from typing import NamedTuple

from benchmarks.main_loop import MainLoop, read_main_loop
from kunlun_jax.plan.absent_gpu import Compiled, cuda_program

_TENSOR_PTX = {
    "wgmma": r"\bwgmma\.mma_async",
    "tcgen05.mma": r"\btcgen05\.mma\b",
    "mma.sync": r"(?<!wg)\bmma\.sync",
}
_TENSOR_SASS = r"\b(HGMMA|QGMMA|UTC[A-Z]*MMA|HMMA)\b"


class MachineCode(NamedTuple):
    """What one kernel needs.

    Attributes:
        registers: of a thread.
        spill_bytes: of a thread, stored to and loaded from memory for want of registers.
        shared_bytes: of a block.
        tensor_columns: of a block's tensor memory, which has 512 (B200 only).
        tensor_ptx: name of the matrix product in PTX -> instructions.
        tensor_sass: likewise in the final code.
        load_bytes: least and most bytes that a thread's load from global memory takes at once.
        serialized: whether the assembler gave up on running wgmma asynchronously.
        threads: of a block.
        loop: the main loop; None without matrix products in a loop.
    """

    registers: int
    spill_bytes: int
    shared_bytes: int
    tensor_columns: int
    tensor_ptx: dict[str, int]
    tensor_sass: dict[str, int]
    load_bytes: tuple[int, int]
    serialized: bool
    threads: int
    loop: MainLoop | None


def read(compiled: Compiled, kernel: str) -> MachineCode:
    """Assemble the PTX and read the figures of one kernel.

    Args:
        compiled: of a function that launches the kernel.
        kernel: its name.
    """
    [target] = re.findall(r"^\.target (\w+)", compiled.ptx, re.MULTILINE)
    [shared] = re.findall(rf" {kernel} grid: .*shared_memory: (\d+) bytes", compiled.thunks)
    body = _entry(compiled.ptx, kernel)
    complaints, log, sass = _assemble(compiled.ptx, kernel, target)
    columns = re.findall(r"tcgen05\.alloc\S+ \[[^\]]*\], (\d+)", body)
    tensor = {name: len(re.findall(pattern, body)) for name, pattern in _TENSOR_PTX.items()}
    return MachineCode(
        registers=int(_number(r"Used (\d+) registers", log)),
        spill_bytes=_number(r"(\d+) bytes spill stores", log)
        + _number(r"(\d+) bytes spill loads", log),
        shared_bytes=int(shared),
        tensor_columns=sum(map(int, columns)),
        tensor_ptx={name: count for name, count in tensor.items() if count},
        tensor_sass=dict(collections.Counter(re.findall(_TENSOR_SASS, sass))),
        load_bytes=_load_bytes(body),
        # Said before the line "Compiling entry function", with the function's name at the end.
        serialized=bool(
            re.search(rf"wgmma.* are serialized .*in the function '{kernel}'", complaints)
        ),
        threads=_number(r"\.reqntid (\d+)", body),
        loop=read_main_loop(body, sass),
    )


def _entry(ptx: str, kernel: str) -> str:
    """Return the text of one kernel."""
    entries = re.split(r"^\.visible \.entry ", ptx, flags=re.MULTILINE)
    [body] = [entry for entry in entries if re.match(rf"{kernel}\b", entry)]
    return body


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in what the assembler says"
    return int(found[1])


def _load_bytes(body: str) -> tuple[int, int]:
    widths = [
        int(lanes or 1) * int(bits) // 8
        for lanes, bits in re.findall(r"\bld\.global\S*?(?:\.v(\d))?\.[bfsu](\d+)\b", body)
    ]
    widths += [int(size, 0) for size in re.findall(r"\bcp\.async\S+ \[.*?\], \[.*?\], (\w+)", body)]
    return min(widths, default=0), max(widths, default=0)


def _assemble(ptx: str, kernel: str, target: str) -> tuple[str, str, str]:
    """Return all that the assembler says, what it says of the kernel, and the final code."""
    with tempfile.TemporaryDirectory() as directory:
        source, binary = pathlib.Path(directory, "x.ptx"), pathlib.Path(directory, "x.cubin")
        source.write_text(ptx)
        log = _run("ptxas", f"-arch={target}", "-v", str(source), "-o", str(binary))
        sass = _run("cuobjdump", "-sass", "-fun", kernel, str(binary))
    parts = log.split("Compiling entry function ")
    [of_kernel] = [part for part in parts if part.startswith(f"'{kernel}'")]
    return log, of_kernel, sass


def _run(program: str, *arguments: str) -> str:
    path = cuda_program(program)
    # cuobjdump calls nvdisasm by its bare name.
    search = os.pathsep.join([str(pathlib.Path(path).parent), os.environ.get("PATH", "")])
    result = subprocess.run(
        [path, *arguments],
        env={**os.environ, "PATH": search},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"{program}: {result.stdout.strip()}")
    return result.stdout
