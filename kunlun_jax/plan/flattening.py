"""Flatten a traced step into the program of one device.

Calls are inlined, equal operations made one, and arrays cut to what one device has of them
(`splits.py`), so that bytes and floating-point operations can be counted without a compiler and
without a device.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

from kunlun_jax.plan import splits
from kunlun_jax.plan.program import COLLECTIVES, Operation, Program
from kunlun_jax.plan.splits import Array, Split

_CALLS = ("jit", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint", "closed_call")


@dataclasses.dataclass(frozen=True)
class _Value:
    number: int
    split: Split


def flatten(jaxpr: Any, in_splits: Sequence[Split], sizes: Mapping[str, int]) -> Program:
    """Return the program of one device.

    Args:
        jaxpr: What `jax.make_jaxpr` returned.
        in_splits: Split of every argument.
        sizes: Devices by mesh axis.
    """
    builder = _Builder({axis: size for axis, size in sizes.items() if size > 1})
    inputs = [
        builder.new(variable.aval, builder.real(split))
        for variable, split in zip(jaxpr.jaxpr.invars, in_splits, strict=True)
    ]
    constants = [
        builder.new(variable.aval, splits.unsplit(len(variable.aval.shape)))
        for variable in jaxpr.jaxpr.constvars
    ]
    outputs = builder.inline(jaxpr.jaxpr, constants, inputs, "")
    program = builder.program
    program.inputs = tuple(value.number for value in inputs)
    program.outputs = tuple(value.number for value in outputs)
    return program


def item_bytes(aval: Any) -> int:
    """Return the bytes of an element; of a key of random numbers, 8."""
    return getattr(aval.dtype, "itemsize", 8)


class _Builder:
    """Appends the operations of a jaxpr, and of those inside it, to a program."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._known: dict[Any, list[_Value]] = {}
        self.program = Program()

    def real(self, split: Split) -> Split:
        """Leave out the axes of one device."""
        return tuple(tuple(axis for axis in axes if axis in self._sizes) for axes in split)

    def new(self, aval: Any, split: Split) -> _Value:
        if not hasattr(aval, "shape"):  # a reference or a token
            return self._sized(0, ())
        shape = splits.share(aval.shape, split, self._sizes)
        return self._sized(math.prod(shape) * item_bytes(aval), split)

    def _sized(self, size: int, split: Split) -> _Value:
        self.program.bytes.append(size)
        return _Value(len(self.program.bytes) - 1, split)

    def inline(
        self, jaxpr: Any, constants: Sequence[_Value], inputs: Sequence[_Value], scope: str
    ) -> list[_Value]:
        known: dict[Any, _Value] = {}
        known.update(zip(jaxpr.constvars, constants, strict=True))
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> _Value:
            return self._literal(atom) if isinstance(atom, core.Literal) else known[atom]

        for equation in jaxpr.eqns:
            arguments = [read(atom) for atom in equation.invars]
            inner = str(equation.source_info.name_stack)
            module = f"{scope}/{inner}" if scope and inner else scope or inner
            known.update(zip(equation.outvars, self._add(equation, arguments, module), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _add(self, equation: Any, arguments: list[_Value], scope: str) -> list[_Value]:
        name, parameters = equation.primitive.name, equation.params
        if name in _CALLS:
            called = parameters.get("jaxpr") or parameters["call_jaxpr"]
            closed = hasattr(called, "jaxpr")
            constants = [
                self.new(variable.aval, splits.unsplit(len(variable.aval.shape)))
                for variable in (called.jaxpr.constvars if closed else ())
            ]
            return self.inline(called.jaxpr if closed else called, constants, arguments, scope)
        if name == "shard_map":
            return self._shard_map(equation, arguments, scope)
        if name in ("while", "scan"):
            return self._loop(equation, arguments, scope)
        return self._plain(equation, arguments, scope)

    def _literal(self, literal: Any) -> _Value:
        key = str(literal.aval), str(literal.val)
        if key not in self._known:
            self._known[key] = [self._sized(0, splits.unsplit(len(literal.aval.shape)))]
        return self._known[key][0]

    def _plain(self, equation: Any, arguments: list[_Value], scope: str) -> list[_Value]:
        """Add an operation, unless the very same is there: the compiler keeps one of equals."""
        if equation.primitive.name == "pallas_call" or equation.effects:
            return self._new(equation, arguments, scope)
        given = tuple(value.number for value in arguments)
        key = equation.primitive.name, given, repr(equation.params)
        if key not in self._known:
            self._known[key] = self._new(equation, arguments, scope)
        return self._known[key]

    def _new(self, equation: Any, arguments: list[_Value], scope: str) -> list[_Value]:
        name, parameters = equation.primitive.name, equation.params
        arrays = [
            Array(getattr(atom.aval, "shape", ()), value.split)
            for atom, value in zip(equation.invars, arguments, strict=True)
        ]
        results = [
            splits.result_of(name, parameters, arrays, getattr(v.aval, "shape", ()))
            for v in equation.outvars
        ]
        for operand, split in results[0].gathered.items():
            whole = self.new(equation.invars[operand].aval, split)
            axes = _missing(arguments[operand].split, split)
            self._append("all-gather", [arguments[operand]], [whole], scope, axes=axes)
            arguments[operand] = whole
        outputs = [
            self.new(variable.aval, result.split)
            for variable, result in zip(equation.outvars, results, strict=True)
        ]
        axes = _named_axes(parameters) if name in COLLECTIVES else ()
        axes = tuple(axis for axis in axes if axis in self._sizes)
        given, made = (sum(self.program.bytes[v.number] for v in vs) for vs in (arguments, outputs))
        if (name in COLLECTIVES and not axes) or (name == "broadcast_in_dim" and given == made):
            name = "copy"
        self._append(
            name,
            arguments,
            outputs,
            scope,
            flops=self._flops(equation, arguments),
            axes=axes,
            shapes=tuple(array.shape for array in arrays) if name == "pallas_call" else (),
        )
        if not results[0].summed_over:
            return outputs
        summed = [self._sized(self.program.bytes[v.number], v.split) for v in outputs]
        self._append("psum", outputs, summed, scope, axes=results[0].summed_over)
        return summed

    def _flops(self, equation: Any, arguments: list[_Value]) -> float:
        if equation.primitive.name != "dot_general":
            return 0.0
        (contracted_l, contracted_r), (_, batch_r) = equation.params["dimension_numbers"]
        left, right = (
            splits.share(atom.aval.shape, value.split, self._sizes)
            for atom, value in zip(equation.invars, arguments, strict=True)
        )
        # Where only one side of a contraction is split, the other is sliced for free.
        pairs = zip(contracted_l, contracted_r, strict=True)
        shared = math.prod(min(left[i], right[j]) for i, j in pairs)
        rows = math.prod(n for i, n in enumerate(left) if i not in contracted_l)
        columns = math.prod(n for j, n in enumerate(right) if j not in (*contracted_r, *batch_r))
        return 2.0 * rows * columns * shared

    def _shard_map(self, equation: Any, arguments: list[_Value], scope: str) -> list[_Value]:
        parameters, body = equation.params, equation.params["jaxpr"]
        scope = f"{scope}/shard_map" if scope else "shard_map"
        inputs = []
        for value, inner, spec in zip(arguments, body.invars, parameters["in_specs"], strict=True):
            rank = len(inner.aval.shape)
            local = _Value(value.number, splits.unsplit(rank))
            size = math.prod(inner.aval.shape) * item_bytes(inner.aval)
            if size != self.program.bytes[value.number]:
                local = self._sized(size, splits.unsplit(rank))
                missing = _missing(value.split, self.real(splits.of_spec(spec, rank)))
                name = "all-gather" if missing else "slice"
                self._append(name, [value], [local], scope, axes=missing)
            inputs.append(local)
        constants = [self.new(v.aval, splits.unsplit(len(v.aval.shape))) for v in body.constvars]
        found = self.inline(body, constants, inputs, scope)
        return [
            _Value(value.number, self.real(splits.of_spec(spec, len(variable.aval.shape))))
            for value, spec, variable in zip(
                found, parameters["out_specs"], equation.outvars, strict=True
            )
        ]

    def _loop(self, equation: Any, arguments: list[_Value], scope: str) -> list[_Value]:
        parameters = equation.params
        is_while = equation.primitive.name == "while"
        body = parameters["body_jaxpr"] if is_while else parameters["jaxpr"]
        if is_while:
            arguments = arguments[parameters["cond_nconsts"] :]
            num_constants, num_carried = parameters["body_nconsts"], len(equation.outvars)
        else:
            num_constants, num_carried = parameters["num_consts"], parameters["num_carry"]
        carried = arguments[num_constants : num_constants + num_carried]
        given = [
            value.split if len(value.split) == len(v.aval.shape) else value.split[1:]
            for value, v in zip(arguments, body.jaxpr.invars, strict=True)
        ]
        inner = flatten(body, given, self._sizes)
        outputs = [
            self.new(v.aval, value.split)
            for v, value in zip(equation.outvars, carried, strict=False)
        ]
        outputs += [
            self.new(v.aval, splits.unsplit(len(v.aval.shape)))
            for v in equation.outvars[num_carried:]
        ]
        trips = 1 if is_while else parameters["length"]
        # The carried arrays come last, in the order of the results that take their place.
        inputs = [*arguments[:num_constants], *arguments[num_constants + num_carried :], *carried]
        self._append("loop", inputs, outputs, scope, body=inner, trips=trips)
        return outputs

    def _append(
        self,
        primitive: str,
        inputs: Sequence[_Value],
        outputs: Sequence[_Value],
        scope: str,
        **fields: Any,
    ) -> None:
        numbers = (tuple(value.number for value in values) for values in (inputs, outputs))
        self.program.operations.append(Operation(primitive, *numbers, scope=scope, **fields))


def _missing(before: Split, after: Split) -> tuple[str, ...]:
    """Return the axes that split an array before and no longer do."""
    kept = {axis for axes in after for axis in axes}
    return tuple(axis for axes in before for axis in axes if axis not in kept)


def _named_axes(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    axes = parameters.get("axes", parameters.get("axis_name", ()))
    return (axes,) if isinstance(axes, str) else tuple(axes)
