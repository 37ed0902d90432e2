"""The plan of production-size steps against the compiler: is the predicted memory what XLA needs?

    pip install -e ".[aot]"
    python -m benchmarks.compile_step [--case="one node"]

Plans and compiles variants of `configs/b200.py` for GPUs that are not attached, and writes both
into a JSON, under the name of the case; what is not asked for stays there as it is. A whole
case takes 2 to 3 minutes of two idle cores, and 4 GB.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import app, flags
from ml_collections import ConfigDict

from benchmarks.report import RESULTS, environment, write_json
from configs import b200
from kunlun_jax.config import experiment_config
from kunlun_jax.plan import absent_gpu
from kunlun_jax.plan.compilation import compile_step
from kunlun_jax.plan.machines import machine
from kunlun_jax.plan.prediction import predict
from kunlun_jax.plan.report import comparison


class Case(NamedTuple):
    """A variant of the configuration.

    Attributes:
        machine: Where it runs.
        nodes: Argument of `b200.get_config`.
        is_small: Whether it has three streams and twenty context features only, which compile in
            a fraction of the time.
        change: Changes the configuration in place.
    """

    machine: str = "b200x8"
    nodes: str = "1"
    is_small: bool = False
    change: Callable[[ConfigDict], Any] = lambda config: None


def _two_layers(config: ConfigDict) -> None:
    config.model.num_layers = 2
    for stream in config.model.streams.values():
        stream.num_layers = 2


def _mesh(config: ConfigDict) -> None:
    config.data.batch_size = 256
    config.mesh.update(data=2, fsdp=2, tensor=2)


def _interformer(config: ConfigDict) -> None:
    config.model.name = "interformer"
    config.model.interformer.num_heads = 4
    config.data.batch_size = 128


CASES = {
    "one node": Case(),
    "one node, without kernels": Case(change=lambda c: c.model.update(kernels="xla")),
    "64 nodes": Case("b200x512", "64"),
    "three streams": Case(is_small=True),
    "three streams, two layers": Case(is_small=True, change=_two_layers),
    "three streams, a quarter of the batch, tensor 2": Case(is_small=True, change=_mesh),
    "three streams, InterFormer": Case(is_small=True, change=_interformer),
    "three streams, 64 nodes": Case("b200x512", "64", is_small=True),
    "three streams, eight H200": Case("h200x8", is_small=True),
}
_SMALL_STREAMS = ("impression", "click", "search")
_SMALL_FEATURES = 23  # the candidate's three, and twenty of the context
_CASE = flags.DEFINE_multi_string("case", list(CASES), "Which to compile; may be repeated.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "compile_step.json"), "Where the JSON goes.")


def run(case: Case) -> dict[str, Any]:
    """Plan and compile a case; return what was predicted and what XLA said."""
    changed, schema = b200.get_config(case.nodes), b200.schema()
    if case.is_small:
        schema = dataclasses.replace(schema, sparse=schema.sparse[:_SMALL_FEATURES])
        for name in set(changed.model.streams) - set(_SMALL_STREAMS):
            del changed.model.streams[name]
    case.change(changed)
    config, target = experiment_config(changed), machine(case.machine)
    predicted = predict(config, schema, target)
    compiled = compile_step(config, schema, target)
    print(comparison(predicted, compiled), flush=True)
    exchanged: dict[str, int] = {}
    for name, exchange in predicted.exchanges.items():
        kind = name.split(" over ")[0]
        exchanged[kind] = exchanged.get(kind, 0) + exchange.bytes
    return {
        "machine": case.machine,
        "mesh": predicted.mesh,
        "batch_size": config.data.batch_size,
        "parameters": sum(predicted.parameters.values()),
        "table_rows": sum(table.rows for table in predicted.tables.values()),
        "flops_per_example": sum(predicted.flops_per_example.values()),
        "predicted": {
            "argument_bytes": predicted.argument_bytes,
            "temporary_bytes": predicted.temporary_bytes,
            "peak_bytes": predicted.peak_bytes,
            "collective_bytes": exchanged,
            "least_seconds": predicted.seconds,
            "mfu": predicted.mfu,
        },
        "compiled": dataclasses.asdict(compiled),
    }


def main(argv: list[str]) -> None:
    """Run the cases and write the JSON after each."""
    del argv
    unknown = set(_CASE.value) - set(CASES)
    if unknown:
        sys.exit(f"error: --case: expected some of {', '.join(CASES)}; got {', '.join(unknown)}")
    try:
        absent_gpu.require_packages()
    except absent_gpu.MissingPackagesError as error:
        sys.exit(f"error: expected pip install -e '.[aot]', without it there is no {error}")
    out = pathlib.Path(_OUT.value)
    for name in _CASE.value:
        print(f"{name}:", flush=True)
        found = run(CASES[name])
        known = json.loads(out.read_text())["cases"] if out.exists() else {}
        record = environment(("jax", "jaxlib", "flax"))
        write_json(out, {**record, "cases": {**known, name: found}})


if __name__ == "__main__":
    app.run(main)
