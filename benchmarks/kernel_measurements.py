"""Ceilings, correctness and times of the kernels and of their JAX baselines, in one process.

`benchmarks/kernels.py` runs it as a process of its own, so that a kernel that brings the GPU down
takes only what comes after it along: every number is appended to a file as it is known.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import baselines
from benchmarks.roofline import Ceilings, measure_ceilings
from benchmarks.workloads import DIRECTIONS, Inputs, Workload, input_sets, operation, shapes
from pallas_kernels.timing import (
    Budget,
    compile_all,
    first_line,
    forward_and_pull,
    seconds_per_call,
)

# Largest norm of the error over the norm of the result, against f32 arithmetic on the same
# inputs: 8 bits of bf16, weights, cotangents and results rounded once each.
TOLERANCE = 1e-2
Record = dict[str, Any]


class KernelError(Exception):
    """A kernel is wrong or does not run: there is nothing to time."""


def append(path: pathlib.Path, record: Record) -> None:
    """Add a line to the file of records."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


class Passes:
    """The passes of a function of (query, key, value, **options).

    Attributes:
        forward: function of `Inputs`; without what a backward pass would need.
        saving: function of the arrays of `Inputs` and of its options, which returns the result and
            what the backward pass needs.
        backward: function of that and the cotangent.
    """

    def __init__(self, function: Callable[..., jax.Array]) -> None:
        self._function = function
        self.saving, self.backward = forward_and_pull(
            lambda arrays, options: function(*arrays, **options)
        )

    def forward(self, inputs: Inputs) -> jax.Array:
        """Return the result."""
        return self._function(*inputs.arrays, **inputs.options)

    def both(self, inputs: Inputs) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Return the result and the gradients."""

        def of_arrays(*arrays: Any) -> jax.Array:
            return self._function(*arrays, **inputs.options)

        out, pull = jax.vjp(of_arrays, *inputs.arrays)
        return out, pull(inputs.cotangent)

    def compiled(self, direction: str, inputs: Inputs) -> Any:
        """Compile a pass for inputs of these shapes."""
        if direction == "forward":
            return jax.jit(self.forward).lower(inputs).compile()
        _, saved = jax.eval_shape(self.saving, inputs.arrays, inputs.options)
        return jax.jit(self.backward).lower(saved, inputs.cotangent).compile()

    def timed(self, direction: str, program: Any, sets: Sequence[Inputs]) -> float:
        """Return the seconds of a call of the compiled pass."""
        if direction == "forward":
            return seconds_per_call(self.forward, program, [(inputs,) for inputs in sets])
        saving = jax.jit(lambda *arguments: self.saving(*arguments)[1])
        saved = [(saving(x.arrays, x.options), x.cotangent) for x in sets]
        return seconds_per_call(self.backward, program, saved)


def check(workload: Workload, implementation: str) -> dict[str, float]:
    """Compare a kernel and its gradients with the f32 reference; padding is NaN for the kernel.

    Returns:
        The error of the output and of each gradient, relative by norm.

    Raises:
        KernelError: an error above `TOLERANCE`, or NaN.
    """
    inputs = input_sets(workload)[0]
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), inputs._replace(options={}))
    with jax.default_matmul_precision("highest"):
        want = jax.jit(Passes(operation(workload, "xla")).both)(
            exact._replace(options=inputs.options)
        )
    got = jax.jit(Passes(operation(workload, implementation)).both)(_poisoned(workload, inputs))
    names = ("out", "d_query", "d_key", "d_value")
    values = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    errors = {name: _error(*pair) for name, pair in zip(names, values, strict=True)}
    wrong = [f"{name} {error:.1e}" for name, error in errors.items() if not error <= TOLERANCE]
    if wrong:
        raise KernelError(f"relative error of {', '.join(wrong)}, expected <= {TOLERANCE:.0e}")
    return errors


def _poisoned(workload: Workload, inputs: Inputs) -> Inputs:
    query, key, value = inputs.arrays
    lengths = tuple(jnp.asarray(x) for x in (workload.row_lengths, workload.key_lengths))

    def poison(x: jax.Array, valid: jax.Array) -> jax.Array:
        padded = jnp.arange(x.shape[1]) >= valid[:, None]
        return jnp.where(padded[..., None, None], jnp.nan, x)

    cotangent = inputs.cotangent
    if workload.operation != "seed":
        query, cotangent = poison(query, lengths[0]), poison(cotangent, lengths[0])
    arrays = (query, poison(key, lengths[1]), poison(value, lengths[1]))
    return inputs._replace(arrays=arrays, cotangent=cotangent)


@jax.jit
def _relative(got: jax.Array, want: jax.Array) -> jax.Array:
    return jnp.linalg.norm((got - want).ravel()) / jnp.linalg.norm(want.ravel())


def _error(got: jax.Array, want: jax.Array) -> float:
    return float(_relative(got.astype(jnp.float32), want))


def measure(
    name: str, workloads: Sequence[Workload], implementation: str, path: pathlib.Path, left: Budget
) -> None:
    """Time the kernels or one baseline at every workload, and append the records.

    Args:
        name: "kernels" or one of `baselines.NAMES`.
        workloads: in the order in which they are measured.
        implementation: of the kernels.
        path: file of records.
        left: what does not fit it is recorded as skipped.
    """
    functions, notes = {}, {}
    for workload in workloads:
        try:
            function = baselines.function(name, workload, implementation)
        except baselines.NotApplicableError as reason:
            notes[workload] = f"does not apply: {reason}"
            continue
        functions[workload] = Passes(function)
    jobs = {
        (_program(name, workload), direction): partial(passes.compiled, direction, shapes(workload))
        for workload, passes in functions.items()
        for direction in DIRECTIONS
    }
    programs = compile_all(jobs, workers=os.cpu_count() or 1, budget=left)
    for workload in workloads:
        record = {"contender": name, "workload": workload.name}
        for which in DIRECTIONS:
            if workload in notes:
                result: Record = {"note": notes[workload]}
            elif not left.left:
                result = {"note": "skipped: time budget"}
            else:
                program = programs[_program(name, workload), which]
                result = _timed(workload, functions[workload], which, program)
            append(path, record | {"pass": which} | result)


def _program(name: str, workload: Workload) -> Workload:
    """Return what tells compiled programs apart: lengths are arguments of our own functions."""
    if name not in ("kernels", "xla"):
        return workload
    return dataclasses.replace(workload, lengths="full", jagged_keys=False, is_target=False)


def _timed(workload: Workload, passes: Passes, direction: str, program: Any) -> Record:
    if isinstance(program, TimeoutError):
        return {"note": f"skipped: {program}"}
    if isinstance(program, BaseException):
        return {"note": f"failed: {first_line(program)}"}
    try:
        # Traced here too: the program may be another workload's, of the same shapes.
        jax.eval_shape(passes.saving, *shapes(workload)[:2])
        return {"seconds": passes.timed(direction, program, input_sets(workload))}
    except Exception as error:  # whatever it is, the others can still be measured
        return {"note": f"failed: {first_line(error)}"}


def run(
    workloads: Sequence[Workload],
    checked: Sequence[Workload],
    implementation: str,
    path: pathlib.Path,
    seconds: float,
    small: bool,
) -> None:
    """Measure everything, appending records to `path`.

    Args:
        workloads: what is timed.
        checked: what is checked first; an error ends the run.
        implementation: of the kernels.
        path: file of records.
        seconds: time budget.
        small: use small arrays to measure the ceilings, for a dry run.
    """
    left = Budget(seconds)
    device = jax.devices()[0]
    append(path, {"device": device.device_kind})
    if implementation == "triton" and device.platform != "gpu":
        append(path, {"error": f"no NVIDIA GPU: JAX finds {device.device_kind} alone"})
        return
    ceilings = measure_ceilings(128, 1e6, "float32") if small else measure_ceilings()
    append(path, {"ceilings": ceilings._asdict()})
    _say(left, describe(ceilings))
    for workload in checked:
        try:
            errors = check(workload, implementation)
        except Exception as error:
            reason = str(error) if isinstance(error, KernelError) else first_line(error)
            append(path, {"error": f"{workload.name}: {reason}"})
            raise
        append(path, {"checked": workload.name, "errors": errors})
        _say(left, f"correct: {workload.name}, error {max(errors.values()):.1e}")
    targets = [workload for workload in workloads if workload.is_target]
    others = [workload for workload in workloads if not workload.is_target]
    for part, words in ((targets, "with goals"), (others, "without goals")):
        for name in ("kernels", *baselines.NAMES):
            measure(name, part, implementation, path, left)
            _say(left, f"timed: {name}, workloads {words}")


def describe(ceilings: Ceilings) -> str:
    """Return the ceilings in words."""
    return (
        f"ceilings: {ceilings.flops_per_second / 1e12:.0f} TFLOP/s, "
        f"{ceilings.bytes_per_second / 1e12:.2f} TB/s"
    )


def _say(left: Budget, text: str) -> None:
    print(f"[{left.left:4.0f} s left] {text}", flush=True)
