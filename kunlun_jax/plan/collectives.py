"""What devices exchange, read from compiled HLO."""

import math
import re

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {
    **{"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2},
    **{"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "token": 0},
}


def type_bytes(text: str) -> int:
    """Return the bytes of a type of HLO, of all its parts where it is a tuple."""
    return sum(
        _BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", text)
    )


def collectives(hlo: str) -> dict[str, dict[str, int]]:
    """Return count and result bytes, on one device, of every kind of collective.

    What stands in a loop counts once. An asynchronous one counts where it is done, because what
    starts it returns its operands too.

    Args:
        hlo: Text of a compiled module.
    """
    found: dict[str, dict[str, int]] = {}
    pattern = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-done)?\(")
    for line in hlo.splitlines():
        match = pattern.search(line)
        if match is None:
            continue
        entry = found.setdefault(match[2], {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += type_bytes(match[1])
    return found
