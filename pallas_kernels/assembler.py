"""What NVIDIA's assembler says of a compiled kernel: spilled registers, serialised products.

XLA assembles the PTX itself and keeps to itself what the assembler says; so it is asked to write
the PTX down, and the assembler of the installed CUDA packages is run once more.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import jax


def find_ptxas() -> str | None:
    """Return the path of the assembler: of NVIDIA's Python packages, or the machine's."""
    for directory in sys.path:
        for path in pathlib.Path(directory, "nvidia").glob("*/bin/ptxas"):
            return str(path)
    return shutil.which("ptxas")


def compile_and_read(lowered: Any, kernels: Sequence[str]) -> tuple[Any, str]:
    """Compile for the GPU at hand.

    Args:
        lowered: `jax.stages.Lowered`.
        kernels: names, of which it holds one.

    Returns:
        The program, and what is wrong with that kernel, in words; "" where nothing is.
    """
    with tempfile.TemporaryDirectory() as directory:
        options: dict[str, str | bool] = {"xla_dump_to": directory}
        # JAX 0.11 and later write PTX only where an emitter's name matches.
        if jax.__version_info__ >= (0, 11):
            options["xla_dump_emitter_re"] = ".*"
        program = lowered.compile(compiler_options=options)
        for path in sorted(pathlib.Path(directory).glob("*.ptx")):
            text = path.read_text()
            for kernel in kernels:
                if re.search(rf"\.entry {kernel}\b", text):
                    return program, faults(text, kernel)
    return program, "no PTX to read spills from"


def faults(ptx: str, kernel: str) -> str:
    """Return what the assembler complains of in a kernel, in words; "" for nothing."""
    program = find_ptxas()
    if program is None:
        return "no ptxas here to read spills from"
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert target, "no target in the PTX"
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "kernel.ptx")
        path.write_text(ptx)
        command = [program, f"-arch={target[1]}", "-v", str(path), "-o", os.devnull]
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    return in_words(result.stdout, kernel)


def in_words(log: str, kernel: str) -> str:
    """Return what a log of `ptxas -v` says against a kernel."""
    found = []
    # Said ahead of the line that the function is compiled.
    if re.search(rf"wgmma.* are serialized .*in the function '{kernel}'", log):
        found.append("products one at a time")
    own = log.partition(f"Compiling entry function '{kernel}'")[2]
    own = own.partition("Compiling entry function")[0]
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", own)
    if not spilled:
        return "; ".join([*found, "ptxas says nothing of spills"])
    num_bytes = int(spilled[1]) + int(spilled[2])
    if num_bytes:
        found.append(f"spills {num_bytes} bytes")
    return "; ".join(found)
