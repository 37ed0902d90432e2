"""What devices exchange, read from compiled HLO."""

import math
import re

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8}


def collectives(hlo: str) -> dict[str, dict[str, int]]:
    """Return count and result bytes, on one device, of every kind of collective.

    What stands in a loop counts once. An asynchronous one counts where it is done, because what
    starts it returns its operands too.

    Args:
        hlo: Text of a compiled module.
    """
    found: dict[str, dict[str, int]] = {}
    pattern = re.compile(rf"= (.*?) ({'|'.join(_KINDS)})(?:-done)?\(")
    for line in hlo.splitlines():
        match = pattern.search(line)
        if match is None:
            continue
        size = sum(
            _BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
            for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", match[1])
        )
        entry = found.setdefault(match[2], {"count": 0, "bytes": 0})
        entry["count"] += 1
        entry["bytes"] += size
    return found
