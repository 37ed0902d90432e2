"""The Triton IR of a kernel: what JAX hands to Triton, and all that machine code depends on.

Refactoring a kernel leaves its IR as it was. So the IR tells whether what the compiler made of a
kernel still holds, and whether a change of a kernel, or of JAX, changes anything.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.mlir import ir
from jaxlib.mlir.passmanager import PassManager
from jaxlib.triton import dialect

from benchmarks import kernel_cases
from benchmarks.kernel_cases import Case
from kunlun_jax.plan import absent_gpu
from pallas_kernels.tile_choices import choices_for

_TARGET = "__gpu$xla.gpu.triton"


def triton_ir(gpu: str, case: Case) -> str:
    """Return the IR of a kernel, its constants folded, with warps and stages ahead of it.

    Args:
        gpu: a key of `GPUS`.
        case: the kernel.
    """
    function, arguments = kernel_cases.program(case)
    model = absent_gpu.GPUS[gpu]
    with absent_gpu.abstract_device(model.name), choices_for(model.capability):
        lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
    module: Any = lowered.compiler_ir("stablehlo")
    [config] = [
        config for config in _configs(module.operation) if _text(config["name"]) == case.kernel
    ]
    warps, stages = (ir.IntegerAttr(config[name]).value for name in ("num_warps", "num_stages"))
    dialect.register_dialect(module.context)
    bytecode = ir.StringAttr(config["ir"]).value_bytes
    body = ir.Module.parse(bytecode, context=module.context).operation
    PassManager.parse("builtin.module(canonicalize,cse)", context=module.context).run(body)
    # Bytecode holds the places in the sources that it comes from; this text leaves them out.
    text = body.get_asm(enable_debug_info=False)
    return f"// {warps} warps, {stages} stages\n{text}"


def digest(gpu: str, case: Case) -> str:
    """Return a hash of the IR of a kernel."""
    return hashlib.sha256(triton_ir(gpu, case).encode()).hexdigest()[:16]


def _text(attribute: Any) -> str:
    return ir.StringAttr(attribute).value


def _configs(operation: Any) -> Iterator[Any]:
    """Yield what configures the calls of Triton within an operation."""
    for region in operation.regions:
        for block in region:
            for each in block:
                yield from _configs(each.operation)
    if operation.name != "stablehlo.custom_call":
        return
    if _text(operation.attributes["call_target_name"]) == _TARGET:
        yield ir.DictAttr(operation.attributes["mhlo.backend_config"])
