"""What a program keeps in memory, and what it moves: a model of XLA's fusion and buffers.

Four facts about the compiled step decide its memory, and all follow from the trace:

    what is stored   The inputs of matrix products, kernels, sorts, collectives and loops have to
                     stand in memory, and so do their results and those of reductions. Everything
                     between them is elementwise and is computed where it is read, as often as it is
                     read, unless storing it moves fewer bytes.
    how long         From the operation that makes it to the last one that reads it, itself or
                     through what is computed from it on the fly. What the backward pass reads
                     lives from the forward pass on: these are the activations.
    together         Scatters whose results are added up are one scatter of all their updates;
                     zeros that are written over wait for nothing, and are made first.
    in whose place   A scatter or a loop writes over its operand; an elementwise result takes the
                     place of an input that is not read again; what a step returns takes the place
                     of the state that it was given.

The peak is the most that is alive at once, in the order of the trace.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping

from kunlun_jax.plan.program import COLLECTIVES, Operation, Program

# Another name of the same bytes: at most the layout differs, which a consumer reads as it is.
_SAME_BYTES = frozenset(
    {"reshape", "squeeze", "expand_dims", "copy", "transpose", "stop_gradient", "reshard"}
)
_STORED = frozenset(
    {
        "dot_general",
        "pallas_call",
        "loop",
        "sort",
        "cumsum",
        "scatter",
        "scatter-add",
        "dynamic_update_slice",
        "all-gather",
        *COLLECTIVES,
    }
)
_IN_PLACE = frozenset({"scatter", "scatter-add", "dynamic_update_slice", "loop", "psum", "pmax"})
_UPDATES = frozenset({"scatter", "scatter-add", "dynamic_update_slice"})
# XLA's simplifier runs so many rounds at most, and merges two scatters in each.
_MOST_MERGES = 25
# Read only as much of an input as they put out.
_PARTIAL = frozenset({"gather", "slice", "dynamic_slice", "split"})
# Computed once: as dear as moving their result.
_DEAR = frozenset(
    {"tanh", "exp", "exp2", "log", "log1p", "logistic", "erf", "erf_inv", "sin", "cos", "pow"}
)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array in memory.

    Attributes:
        bytes: Its size on one device.
        scope: Scope of the operation that makes it.
        start: Place of that operation in the program.
        end: Place of the last operation that reads it.
    """

    bytes: int
    scope: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One launch: an operation with all that is computed on the fly for it.

    Attributes:
        operation: The operation.
        bytes: Read and written; of a loop, of all its trips.
        inner: The launches inside a loop.
    """

    operation: Operation
    bytes: int
    inner: tuple["Kernel", ...] = ()


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a program needs beside its inputs and outputs.

    Attributes:
        peak: Most bytes alive at once.
        alive: The buffers alive then.
        kernels: All launches, in order.
    """

    peak: int
    alive: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]


def usage(program: Program) -> Usage:
    """Return the memory and the traffic of a program.

    Args:
        program: The program.
    """
    return _Analysis(program).run()


class _Analysis:
    def __init__(self, program: Program) -> None:
        self._bytes = program.bytes
        self._program = program
        self._alias = list(range(len(program.bytes)))
        for operation in program.operations:
            if operation.primitive in _SAME_BYTES:
                for number, same in zip(operation.outputs, operation.inputs, strict=True):
                    self._alias[number] = self._alias[same]
        self._outputs = {self._alias[number] for number in program.outputs}
        self._operations = self._live_operations()
        self._constants = self._without_inputs()
        self._consumers, self._required = self._read_by()
        self._absorbed, self._in_zeros = self._merge_scatters()
        self._required |= self._in_zeros
        # By array, what has to be read to have it: bytes by number of a stored array.
        self._sources: dict[int, dict[int, int]] = {}
        self._start: dict[int, int] = {}
        self._end: dict[int, int] = {}
        self._scope: dict[int, str] = {}
        self._replaces: dict[int, int] = {}

    def _names(self, numbers: Iterable[int]) -> list[int]:
        return [self._alias[number] for number in numbers]

    def _live_operations(self) -> list[Operation]:
        """Return the operations that something is read of, without mere renamings."""
        needed, kept = set(self._outputs), []
        for operation in reversed(self._program.operations):
            if operation.primitive in _SAME_BYTES:
                continue
            if needed & set(self._names(operation.outputs)):
                needed.update(self._names(operation.inputs))
                kept.append(operation)
        return kept[::-1]

    def _without_inputs(self) -> set[int]:
        """Return the arrays of one repeated number."""
        return {
            self._alias[operation.outputs[0]]
            for operation in self._operations
            if operation.primitive == "broadcast_in_dim" and not self._bytes[operation.inputs[0]]
        }

    def _read_by(self) -> tuple[dict[int, int], set[int]]:
        """Return by array how many operations read it, and which arrays have to be stored."""
        consumers: dict[int, int] = defaultdict(int)
        required = set(self._outputs)
        for operation in self._operations:
            for number in set(self._names(operation.inputs)):
                consumers[number] += 1
            if operation.primitive in _STORED:
                required.update(self._names(operation.inputs))
            if operation.primitive in _IN_PLACE:  # what is written over is the result's own
                required.difference_update(self._constants)
        return consumers, required

    def _merge_scatters(self) -> tuple[set[int], set[int]]:
        """Return the results of scatters into zeros that are summed into one, and the others."""
        merges: dict[int, int] = {}
        absorbed: set[int] = set()
        for operation in self._operations:
            inputs, outputs = self._names(operation.inputs), self._names(operation.outputs)
            if operation.primitive == "scatter-add" and inputs[0] in self._constants:
                merges[outputs[0]] = 0
            elif operation.primitive in ("add", "add_any") and merges.keys() >= set(inputs):
                total = sum(merges[number] for number in inputs) + 1
                if total <= _MOST_MERGES:
                    merges[outputs[0]] = total
                    absorbed.update(inputs)
        return absorbed, set(merges) - absorbed

    def run(self) -> Usage:
        for number in self._program.inputs:
            self._sources[number] = {number: self._bytes[number]}
        kernels, inner_peaks = [], {}
        for index, operation in enumerate(self._operations):
            kernel, inner = self._visit(index, operation)
            if kernel is not None:
                kernels.append(kernel)
            if inner:
                inner_peaks[index] = inner
        return self._peak(inner_peaks, tuple(kernels))

    def _visit(self, index: int, operation: Operation) -> tuple[Kernel | None, int]:
        outputs = self._names(operation.outputs)
        written = sum(self._bytes[number] for number in outputs)
        read = self._read(operation, written)
        is_stored = operation.primitive in _STORED or operation.primitive.startswith("reduce")
        if self._absorbed.issuperset(outputs):
            self._sources.update(dict.fromkeys(outputs, read))
            return None, 0
        if not is_stored:
            stored = [n for n in outputs if self._is_worth_storing(operation.primitive, n, read)]
            for number in outputs:
                if number not in stored:
                    self._sources[number] = read
            if not stored:
                return None, 0
            outputs, written = stored, sum(self._bytes[number] for number in stored)
        for number in outputs:
            self._sources[number] = {number: self._bytes[number]}
            self._start[number], self._end[number] = index, index
            self._scope[number] = operation.scope
        for number in read:
            self._end[number] = index
        if operation.primitive in _IN_PLACE:
            self._write_over(operation)
        if operation.primitive in _UPDATES:  # read and write what they change, and no more
            written = 2 * min(written, sum(read.values()))
            self._end.update(dict.fromkeys(self._names(operation.inputs[:1]), index))
        if operation.body is None:
            return Kernel(operation, sum(read.values()) + written), 0
        inner = usage(operation.body)
        moved = operation.trips * sum(kernel.bytes for kernel in inner.kernels)
        return Kernel(operation, moved, inner.kernels), inner.peak

    def _read(self, operation: Operation, written: int) -> dict[int, int]:
        found: dict[int, int] = {}
        inputs = self._names(operation.inputs)
        for number in inputs[1:] if operation.primitive in _UPDATES else inputs:
            for source, size in self._sources.get(number, {}).items():
                if operation.primitive in _PARTIAL:
                    size = min(size, written)
                found[source] = max(found.get(source, 0), size)
        return found

    def _is_worth_storing(self, primitive: str, number: int, read: Mapping[int, int]) -> bool:
        """Return whether n readers move fewer bytes with the array in memory than without it."""
        readers, size = self._consumers[number], self._bytes[number]
        if (
            number in self._required
            or number in self._in_zeros
            or (primitive in _DEAR and readers > 1)
        ):
            return True
        return (readers - 1) * sum(read.values()) > (readers + 1) * size

    def _write_over(self, operation: Operation) -> None:
        """Let results take the place of the operands that they update."""
        outputs = self._names(operation.outputs)
        carried = self._names(operation.inputs)
        if operation.primitive == "loop":
            carried = carried[-len(outputs) :]
        for number, operand in zip(outputs, carried, strict=False):
            if operand in self._constants:
                self._in_zeros.add(number)
            elif self._bytes[number] == self._bytes[operand]:
                self._replaces[number] = operand

    def _peak(self, inner_peaks: Mapping[int, int], kernels: tuple[Kernel, ...]) -> Usage:
        given = {*self._program.inputs, *self._outputs}
        for number, operand in self._replaces.items():
            # The operand lives on in the result, if it is not read after it was overwritten.
            if self._end.get(operand) == self._start[number]:
                self._end[operand] = self._start[number] - 1
                if operand in given:
                    given.add(number)
        self._start.update(dict.fromkeys(self._in_zeros & self._start.keys(), 0))
        buffers = [
            Buffer(self._bytes[number], self._scope[number], start, self._end[number])
            for number, start in self._start.items()
            if number not in given
        ]
        changes = [0] * (len(self._operations) + 1)
        for buffer in buffers:
            if buffer.end >= buffer.start:
                changes[buffer.start] += buffer.bytes
                changes[buffer.end + 1] -= buffer.bytes
        alive, peak, peak_index = 0, 0, 0
        for index, change in enumerate(changes):
            alive += change
            total = alive + inner_peaks.get(index, 0)
            if total > peak:
                peak, peak_index = total, index
        then = [b for b in buffers if b.start <= peak_index <= b.end]
        return Usage(peak, tuple(then), kernels)
