"""What a compiled program reads from memory and writes to it, read from its HLO.

Every instruction reads its operands and writes its results, once; nothing is taken to stay in a
cache. Of an array that is gathered from, sliced, scattered to or updated in place, only what is
taken out or put in counts. A loop counts as often as it turns, where the compiler knows.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kunlun_jax.plan.collectives import COLLECTIVES, type_bytes

_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
# These move nothing, or what another line counts.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "domain"),
}
_TAKES = {"gather", "dynamic-slice", "slice"}
_PUTS = {"scatter", "dynamic-update-slice"}
_CALLED = re.compile(r"\b(?:calls|to_apply|body)=%([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_KERNEL = re.compile(r'custom_call_target="__gpu\$xla\.gpu\.triton"')
_PRODUCT = re.compile(r'custom_call_target="__cu(?:blas|dnn)|__triton_(?:nested_)?gemm')


class _Instruction(NamedTuple):
    """One line of HLO: what stands within its brackets, and behind them."""

    is_root: bool
    name: str
    type: str
    opcode: str
    within: str
    behind: str

    @property
    def bytes(self) -> int:
        """Bytes of its results."""
        return type_bytes(self.type)

    @property
    def operands(self) -> list[str]:
        """Names of what it reads."""
        return _NAME.findall(self.within)


_Computation = Mapping[str, _Instruction]


def traffic(hlo: str) -> dict[str, dict[str, int]]:
    """Return count and bytes read and written, on one device, of every kind of instruction.

    Args:
        hlo: Text of a compiled module.
    """
    computations, first = _computations(hlo)
    found: dict[str, dict[str, int]] = {}
    for instruction, body, times in _run(computations, first):
        inner = _called(instruction, computations)
        kind = _kind(instruction, inner)
        entry = found.setdefault(kind, {"count": 0, "bytes": 0})
        entry["count"] += times
        entry["bytes"] += times * _bytes(instruction, body, inner)
    return found


def _computations(hlo: str) -> tuple[dict[str, _Computation], str]:
    """Return the instructions of every computation, and the name of the one that runs."""
    computations: dict[str, _Computation] = {}
    entry, body = "", {}
    for line in hlo.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            entry = name if line.startswith("ENTRY ") else entry
            body = computations[name] = {}
        elif match := _INSTRUCTION.match(line):
            is_root, name, type, opcode, rest = match.groups()
            body[name] = _Instruction(bool(is_root), name, type, opcode, *_closed(rest))
    return computations, entry


def _closed(text: str) -> tuple[str, str]:
    """Split a text at the bracket that closes it."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:place], text[place + 1 :]
    return text, ""


def _run(
    computations: Mapping[str, _Computation], name: str, times: int = 1
) -> Iterator[tuple[_Instruction, _Computation, int]]:
    """Yield what moves bytes, the computation that it stands in, and how often it runs."""
    body = computations[name]
    for instruction in body.values():
        if instruction.opcode in ("while", "call", "async-start", "conditional"):
            turns = _TURNS.search(instruction.behind)
            # Of a loop its body; of a choice every branch.
            called = _CALLED.findall(instruction.behind) or _NAME.findall(instruction.behind)
            for each in called:
                if each in computations:
                    yield from _run(computations, each, times * int(turns[1] if turns else 1))
        elif instruction.opcode not in _FREE and not instruction.opcode.endswith("-done"):
            yield instruction, body, times


def _called(instruction: _Instruction, computations: Mapping[str, _Computation]) -> _Computation:
    """Return what a fusion consists of; nothing of another instruction."""
    if instruction.opcode != "fusion":
        return {}
    [name] = _CALLED.findall(instruction.behind)
    return computations[name]


def _kind(instruction: _Instruction, inner: _Computation) -> str:
    """Return what an instruction is counted as."""
    opcodes = {instruction.opcode, *(each.opcode for each in inner.values())}
    if _KERNEL.search(instruction.behind):
        return "attention kernels"
    if _PRODUCT.search(instruction.behind) or opcodes & {"dot", "convolution"}:
        return "products"
    if any(instruction.opcode.startswith(name) for name in COLLECTIVES):
        return "collectives"
    if opcodes & {"gather", "scatter", "sort"}:
        return "gathers, scatters, sorts"
    return "other passes"


def _bytes(instruction: _Instruction, body: _Computation, inner: _Computation) -> int:
    """Return what an instruction reads and writes."""
    operands = [body[name].bytes for name in instruction.operands if name in body]
    if instruction.opcode in _TAKES:
        return 2 * instruction.bytes
    if instruction.opcode in _PUTS:
        return 2 * sum(operands[1:])
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        return instruction.bytes  # of operand and result
    if not inner:
        return sum(operands) + instruction.bytes
    parameters = {int(each.within): each for each in inner.values() if each.opcode == "parameter"}
    reads = sum(_read(inner, parameters[n].name, size) for n, size in enumerate(operands))
    [root] = [each for each in inner.values() if each.is_root]
    results = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    return reads + sum(_written(inner, result) for result in results)


def _read(inner: _Computation, name: str, size: int) -> int:
    """Return what a fusion reads of an operand: all, or what it takes out."""
    total = 0
    for user in (each for each in inner.values() if name in each.operands):
        if user.opcode in _TAKES and user.operands[0] == name:
            total += user.bytes
        elif user.opcode == "bitcast":
            total += _read(inner, user.name, size)
        elif not (user.opcode in _PUTS and user.operands[0] == name):
            return size
    return min(total, size)


def _written(inner: _Computation, result: _Instruction) -> int:
    """Return what a fusion writes of a result: all, or what it puts into an operand."""
    while result.opcode == "bitcast":
        result = inner[result.operands[0]]
    if result.opcode in _PUTS:
        return sum(inner[name].bytes for name in result.operands[1:] if name in inner)
    return result.bytes
