"""What a kernel does in one turn of its main loop, read from its PTX and from its final code.

The main loop is the innermost loop with the most matrix instructions. Shapes of products stand in
PTX; instructions are counted in the final code, where the assembler may have unrolled the loop.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# The matrix instruction in PTX, with what tells its shape: rows, columns and depth in its name, or
# a register with the descriptor of the instruction.
_WGMMA = re.compile(r"\bwgmma\.mma_async\S*\.m(\d+)n(\d+)k(\d+)\.")
_MMA = re.compile(r"(?<!wg)\bmma\.sync\S*\.m(\d+)n(\d+)k(\d+)\.")
_TCGEN05 = re.compile(
    r"\btcgen05\.mma\S*kind::(\w+) \[[^\]]*\], (?:\[[^\]]*\]|%\w+), %\w+, (%\w+),"
)
_TCGEN05_DEPTH = {"f16": 16, "tf32": 8}
_TENSOR_SASS = re.compile(r"^(HGMMA|QGMMA|UTC[A-Z]*MMA|HMMA)")
_WARPS_OF_GROUP = 4
_THREADS_OF_WARP = 32


class MainLoop(NamedTuple):
    """One turn of a main loop, as the PTX has it.

    Attributes:
        instructions: issued by a warp.
        multiply_adds: of the block's matrix products.
        tensor_rows: fewest rows of a product's instruction; 64 of 128 is half the rate of tcgen05.
        fused: fused multiply-adds of f32 that a thread executes; a packed one counts twice.
        unfused: its multiplications and additions of f32, likewise.
        special: instructions of the special function unit, conversions among them.
        shared: loads from and stores to shared memory, issued by a warp.
        barriers: of the block.
        products_at_once: most products between two waits for them; 1 where each is waited for.
    """

    instructions: float
    multiply_adds: int
    tensor_rows: int
    fused: float
    unfused: float
    special: float
    shared: float
    barriers: float
    products_at_once: int


def read_main_loop(ptx: str, sass: str) -> MainLoop | None:
    """Return the main loop of a kernel; None where no loop holds a matrix product.

    Args:
        ptx: text of the kernel.
        sass: its final code, as cuobjdump prints it.
    """
    threads = re.search(r"\.reqntid (\d+)", ptx)
    assert threads, "no number of threads in the PTX"
    warps = int(threads[1]) // _THREADS_OF_WARP
    products = _busiest(_ptx_loops(ptx.split("\n"), warps))
    code = _busiest(_sass_loops(sass))
    if not products or not code:
        return None
    tensor = [name for name in code if _TENSOR_SASS.match(name)]
    turns = len(tensor) / len(products)

    def count(*names: str) -> float:
        return sum(name.split(".")[0] in names for name in code) / turns

    return MainLoop(
        instructions=len(code) / turns,
        multiply_adds=sum(map(math.prod, products)),
        tensor_rows=min(product[0] for product in products),
        fused=count("FFMA") + 2 * count("FFMA2"),
        unfused=count("FMUL", "FADD") + 2 * count("FMUL2", "FADD2"),
        special=count("MUFU", "F2F", "I2F", "F2I"),
        shared=count("LDS", "STS", "LDSM", "STSM"),
        barriers=count("BAR"),
        products_at_once=_products_at_once(code),
    )


Product = tuple[int, int, int, int]


def _busiest(loops: Iterator[Sequence]) -> Sequence:
    """Return the loop with the most in it; the first of equals, which are the inner ones."""
    return max(loops, key=len, default=())


def _products_at_once(code: Sequence[str]) -> int:
    """Return the most matrix instructions between two waits for their results."""
    most = now = 0
    for name in code:
        if _TENSOR_SASS.match(name):
            now += 1
            most = max(most, now)
        elif name.startswith(("WARPGROUP.DEPBAR", "UTCBAR")):
            now = 0
    return most


def _ptx_loops(lines: Sequence[str], warps: int) -> Iterator[list[Product]]:
    """Yield the products in each innermost loop that holds any.

    A product is rows, columns and depth of the instruction, and how often the block executes it.
    """
    labels = {line[:-1]: number for number, line in enumerate(lines) if re.match(r"\$\w+:$", line)}
    flow = []
    for number, line in enumerate(lines):
        branch = re.search(r"\bbra(?:\.uni)?\s+(\$\w+);", line)
        ends = branch or re.search(r"\b(ret|exit);", line)
        goes_on = not ends or line.lstrip().startswith("@")
        flow.append([number + 1] * goes_on + ([labels[branch[1]]] if branch else []))
    descriptors = dict(re.findall(r"mov\.[bu]32\s+(%\w+), (\d+);", "\n".join(lines)))
    found = [_product(line, descriptors, warps) for line in lines]
    for loop in innermost_loops(flow, [product is not None for product in found]):
        yield [product for number in loop if (product := found[number])]


def _product(line: str, descriptors: dict[str, str], warps: int) -> Product | None:
    for pattern, times in ((_WGMMA, warps // _WARPS_OF_GROUP), (_MMA, warps)):
        if match := pattern.search(line):
            rows, columns, depth = map(int, match.groups())
            return rows, columns, depth, times
    if match := _TCGEN05.search(line):
        # Bits 17 to 22 of the descriptor are columns / 8, bits 24 to 28 rows / 16.
        descriptor = int(descriptors[match[2]])
        rows, columns = (descriptor >> 24 & 31) * 16, (descriptor >> 17 & 63) * 8
        return rows, columns, _TCGEN05_DEPTH[match[1]], 1
    return None


def _sass_loops(sass: str) -> Iterator[list[str]]:
    """Yield the names of the instructions in each innermost loop that holds a product."""
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+ )?([A-Z][\w.]*)([^;]*);", sass)
    places = {int(address, 16): number for number, (address, *_) in enumerate(found)}
    flow = []
    for number, (_, predicate, name, operands) in enumerate(found):
        target = re.search(r"0x([0-9a-f]+)", operands) if name.startswith("BRA") else None
        # A branch may name a uniform predicate among its operands instead.
        conditional = predicate or "P" in operands
        goes_on = conditional or not (target or name.startswith(("EXIT", "RET")))
        flow.append([number + 1] * bool(goes_on) + ([places[int(target[1], 16)]] if target else []))
    is_tensor = [bool(_TENSOR_SASS.match(name)) for _, _, name, _ in found]
    for loop in innermost_loops(flow, is_tensor):
        yield [name for number in loop if (name := found[number][2]) != "NOP"]


def innermost_loops(flow: Sequence[Sequence[int]], wanted: Sequence[bool]) -> list[list[int]]:
    """Return the innermost of the loops that hold something wanted, as sorted nodes.

    Args:
        flow: for every node, those that may follow it; numbers beyond the last are the end.
        wanted: for every node, whether a loop is to hold it.
    """
    inner, todo = [], [list(range(len(flow)))]
    while todo:
        nodes = todo.pop()
        for loop in _cycles(flow, nodes):
            if not any(wanted[node] for node in loop):
                continue
            # Without the ways back to where it is entered, only loops within it are left.
            members = set(loop)
            entered = {
                n for m, after in enumerate(flow) if m not in members for n in after
            } & members
            header = min(entered or members)
            cut = [node for node in loop if node != header]
            within = [c for c in _cycles(flow, cut) if any(wanted[node] for node in c)]
            if within:
                todo.append(cut)
            else:
                inner.append(loop)
    return inner


def _cycles(flow: Sequence[Sequence[int]], nodes: Sequence[int]) -> list[list[int]]:
    """Return the strongly connected parts of a graph that hold a cycle (Tarjan's algorithm)."""
    members, order, low = set(nodes), {}, {}
    stack, on_stack, parts = [], set(), []
    for root in nodes:
        if root in order:
            continue
        work = [(root, iter(flow[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, following = work[-1]
            step = next((n for n in following if n in members), None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    cut = stack.index(node)
                    part, stack[cut:] = stack[cut:], []
                    on_stack.difference_update(part)
                    if len(part) > 1 or node in flow[node]:
                        parts.append(sorted(part))
            elif step not in order:
                order[step] = low[step] = len(order)
                stack.append(step)
                on_stack.add(step)
                work.append((step, iter(flow[step])))
            elif step in on_stack:
                low[node] = min(low[node], order[step])
    return parts
