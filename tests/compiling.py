"""Compiles fast rather than well: tests run a program once, on tiny arrays."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@functools.cache
def _fast_compilation() -> dict[str, Any]:
    """Return XLA options that compile up to ten times faster."""
    options = {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_parallel_codegen_split_count": 1,
    }
    more = {**options, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(jnp.sin, compiler_options=more)(0.0)
    except jax.errors.JaxRuntimeError:  # newer versions of XLA do not have the last one
        return options
    return more


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return jax.jit(function, **options) that compiles fast, where there is no GPU."""
    if jax.default_backend() == "cpu":
        options["compiler_options"] = _fast_compilation()
    return jax.jit(function, **options)
