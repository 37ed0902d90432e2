"""Where a training step's time goes on a CPU, by part of the model and kind of work.

    python -m benchmarks.step_profile [--size=reference]

The step of a size of `twin_sizes.py` is traced by `jax.profiler` on one core, after the steps that
touch its memory; an operation's time is the least of the traces, which knows least of what else the
machine did. Each operation of XLA counts towards the part that its name tells and the kind
that the compiled program tells: matrix products (with what XLA fuses into them: scores' softmax,
norms), copies and transpositions, sorts, gathers and scatters, and the rest, which is elementwise.
GFLOP/s are those of the products that stand in the compiled program, which has those that the
backward pass makes again. The ceiling is a float32 product of 2048 x 2048 on the same core.
"""

import collections
import math
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

from absl import app, flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from benchmarks.random_batches import random_batch  # noqa: E402
from benchmarks.report import RESULTS, environment, write_json  # noqa: E402
from benchmarks.twin_sizes import SIZES, experiment, schema  # noqa: E402
from kunlun_jax.models.registry import create_model  # noqa: E402
from kunlun_jax.training.step import create_train_state, make_train_step  # noqa: E402

_SIZE = flags.DEFINE_string("size", "reference", "One of twin_sizes.SIZES.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")
_WARM_STEPS, _TRACES, _NUM_STEPS, _PRODUCT = 6, 5, 1000, 2048
_T = TypeVar("_T")

_DEFINITION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_PRODUCT_OF = re.compile(
    r"^\s*(?:ROOT )?%([\w.\-]+) = .* dot\(.*?%([\w.\-]+),.*lhs_contracting_dims=\{([\d,]+)\}"
)
# A part is the first that the operation's name holds.
PARTS = {
    "window attention": "_attention",
    "pooling": "_pooling",
    "GDPA block": "_pffn",
    "interaction": "interaction",
    "encoder": "_encoder",
    "head": "head",
    "other layers": "Kunlun",
}
REST = "tables and optimizer"
KINDS = ("products", "copies", "sorts, gathers, scatters", "elementwise")


class Program:
    """What the text of a compiled program tells of its operations.

    Attributes:
        names: By operation, the name that JAX gave it.
        kinds: By operation, one of `KINDS`; loops are left out, their bodies are not.
        flops: By operation, those of its products in one call.
    """

    def __init__(self, text: str) -> None:
        """Read the text, as `compiled.as_text()` returns it."""
        self.names: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.flops: dict[str, int] = {}
        bodies: dict[str, list[str]] = collections.defaultdict(list)
        self._shapes: dict[str, list[int]] = {}
        body = ""
        for line in text.splitlines():
            if line.endswith("{") and not line.startswith(" "):
                body = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            elif found := _DEFINITION.match(line):
                bodies[body].append(line)
                if shape := _SHAPE.match(found.group(2)):
                    self._shapes[found.group(1)] = [int(n) for n in shape.group(1).split(",") if n]
        for lines in bodies.values():
            for line in lines:
                self._read(line, bodies)

    def _read(self, line: str, bodies: dict[str, list[str]]) -> None:
        found = _DEFINITION.match(line)
        assert found is not None
        name, definition = found.groups()
        if re.search(r"\b(while|call|conditional|parameter|constant|tuple)\(", definition):
            return
        named = re.search(r'op_name="([^"]*)"', definition)
        called = re.search(r"calls=%([\w.\-]+)", definition)
        inner = [line, *bodies.get(called.group(1), [])] if called else [line]
        self.names[name] = named.group(1) if named else ""
        self.flops[name] = sum(map(self._product_flops, inner))
        text = "\n".join(inner)
        if self.flops[name]:
            self.kinds[name] = "products"
        elif re.search(r"\b(sort|gather|scatter)\(", text):
            self.kinds[name] = "sorts, gathers, scatters"
        elif re.search(r"\b(copy|transpose|concatenate|slice|dynamic-update-slice)\(", text):
            self.kinds[name] = "copies"
        else:
            self.kinds[name] = "elementwise"

    def _product_flops(self, line: str) -> int:
        """Return the operations of a line, 0 if it is no product."""
        found = _PRODUCT_OF.match(line)
        if not found:
            return 0
        result, left, axes = found.groups()
        contracted = [self._shapes[left][int(axis)] for axis in axes.split(",")]
        return 2 * math.prod(self._shapes[result]) * math.prod(contracted)


def part_of(name: str) -> str:
    """Return the part of the model that an operation's name tells."""
    return next((part for part, told in PARTS.items() if told in name), REST)


def traced(call: Callable[[], _T]) -> tuple[dict[str, tuple[int, int]], _T]:
    """Return nanoseconds and calls by operation, and the result."""
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            result = call()
        (file,) = pathlib.Path(directory).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
    spent: dict[str, tuple[int, int]] = {}
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                before, calls = spent.get(event.name, (0, 0))
                spent[event.name] = before + int(event.duration_ns), calls + 1
    return spent, result


def ceiling() -> float:
    """Return GFLOP/s of a large product on this core."""
    matrix = jnp.ones((_PRODUCT, _PRODUCT))
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(6):
        start = time.process_time()
        jax.block_until_ready(product(matrix, matrix))
        seconds.append(time.process_time() - start)
    return 2 * _PRODUCT**3 / min(seconds) / 1e9


def main(argv: list[str]) -> None:
    """Trace a step, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    size = SIZES[_SIZE.value]
    config, described = experiment(size), schema(size)
    batch = random_batch(config, described, size.batch)
    model = create_model(config, described)
    step = make_train_step(model, described, config, num_steps=_NUM_STEPS)
    state = create_train_state(model, config, batch, num_steps=_NUM_STEPS)
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    program = Program(compiled.as_text())
    for _ in range(_WARM_STEPS):
        state = jax.block_until_ready(compiled(state, batch))
    traces = []
    for _ in range(_TRACES):
        spent, state = traced(lambda state=state: jax.block_until_ready(compiled(state, batch)))
        traces.append(spent)
    table: dict[tuple[str, str], list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
    for name, (_, calls) in traces[0].items():
        if name in program.kinds:
            nanoseconds = min(trace[name][0] for trace in traces)
            cell = table[part_of(program.names[name]), program.kinds[name]]
            cell[0] += nanoseconds / 1e6
            cell[1] += program.flops[name] * calls / 1e9
    total = sum(milliseconds for milliseconds, _ in table.values())
    limit = ceiling()
    print(f"{_SIZE.value}: {total:,.0f} ms a step of {size.batch}; ceiling {limit:.0f} GFLOP/s")
    print(f"{'part':<22}{'kind':<26}{'ms':>8}{'share':>8}{'GFLOP':>8}{'GFLOP/s':>9}")
    rows = []
    for part in (*PARTS, REST):
        for kind in KINDS:
            if (part, kind) not in table:
                continue
            milliseconds, gflop = table[part, kind]
            rate = 1e3 * gflop / milliseconds if gflop else None
            rows.append({"part": part, "kind": kind, "milliseconds": milliseconds, "gflop": gflop})
            tail = f"{gflop:8.1f}{rate:9.0f}" if rate else ""
            print(f"{part:<22}{kind:<26}{milliseconds:8.1f}{milliseconds / total:8.1%}{tail}")
    path = pathlib.Path(_OUT.value or RESULTS / f"step_profile_{_SIZE.value}.json")
    content = {
        **environment(["jax", "jaxlib"]),
        "command": f"python -m benchmarks.step_profile --size={_SIZE.value}",
        "milliseconds": total,
        "ceiling_gflops": limit,
        "rows": rows,
    }
    write_json(path, content)


if __name__ == "__main__":
    app.run(main)
