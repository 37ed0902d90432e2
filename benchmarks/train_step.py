"""How long a training step takes on one GPU, with the kernels and with XLA alone.

    python -m benchmarks.train_step [--config=configs/b200.py] [--batch_size=64]

Random batches at full history length, tables of at most 2^20 rows (a step's time does not depend on
the rows of its tables: docs/design.md). Prints milliseconds, examples/s and MFU: three
times the model's forward operations (`kunlun_jax.flops`), over the time, over the bf16 rate that a
large matrix product reaches on this GPU. The norms of the first step's gradients must agree.
`--dry_run` walks the same way on a CPU, with a stream of 16 events and interpreted kernels.
"""

import dataclasses
import pathlib
import runpy
import statistics
import sys
import time
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.random_batches import random_batch
from benchmarks.report import RESULTS, environment, write_json
from benchmarks.roofline import measure_ceilings
from kunlun_jax.config import ExperimentConfig, experiment_config
from kunlun_jax.data.batch import Batch
from kunlun_jax.data.schema import Schema
from kunlun_jax.flops import flops_by_module
from kunlun_jax.models.registry import create_model
from kunlun_jax.training.step import create_train_state, make_train_step
from pallas_kernels.timing import Budget, first_line

_CONFIG = config_flags.DEFINE_config_file("config", "configs/b200.py", "File with a `schema()`.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples a step, on one GPU.")
_BUDGET = flags.DEFINE_float("budget_seconds", 540, "Once spent, nothing more is begun.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "A tiny model on the CPU, to test the program.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")
_MOST_ROWS = 2**20
_ROUNDS, _STEPS = 7, 10
_NUM_STEPS = 1000  # of the learning rate's schedule
LEAST_SPEEDUP = 1.5  # the goal: the step with XLA over the step with kernels
# Largest relative difference of the gradient norms: bf16 products, summed in other orders.
TOLERANCE = 2e-2


def with_kernels(config: ExperimentConfig, kernels: str) -> ExperimentConfig:
    """Return the experiment with another implementation of the attention operations."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, kernels=kernels))


def with_few_rows(schema: Schema, num_rows: int) -> Schema:
    """Return the schema with its tables cut off after some rows."""
    vocabularies = tuple(
        dataclasses.replace(v, num_ids=min(v.num_ids, num_rows - 1)) for v in schema.vocabularies
    )
    return dataclasses.replace(schema, vocabularies=vocabularies)


def shrunk(config: ExperimentConfig, schema: Schema) -> tuple[ExperimentConfig, Schema]:
    """Return both with one layer, one stream of 16 events, and few features."""
    stream = dataclasses.replace(
        config.model.streams[0], max_len=16, model_dim=32, num_heads=2, n_kv=16, n_tokens=4,
        n_seeds=8, num_layers=1, window=4, mlp_dim=16,
    )  # fmt: skip
    wukong = dataclasses.replace(config.model.wukong, num_experts=2, fm_rank=2, mlp_dim=16)
    model = dataclasses.replace(
        config.model, dim=16, num_layers=1, n_sum=4, head_dims=(16,), wukong=wukong,
        streams=(stream,),
    )  # fmt: skip
    sparse = tuple(f for f in schema.sparse if f.name in schema.candidate)
    schema = dataclasses.replace(schema, sparse=sparse, dense=schema.dense[:2])
    return dataclasses.replace(config, model=model), with_few_rows(schema, 100)


def measure(config: ExperimentConfig, schema: Schema, batch: Batch) -> dict[str, float]:
    """Return the times of compilation and of a step, in seconds, and the first gradient's norm."""
    model = create_model(config, schema)
    state = create_train_state(model, config, batch, num_steps=_NUM_STEPS)
    step = make_train_step(model, schema, config, num_steps=_NUM_STEPS)
    start = time.perf_counter()
    program = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - start
    state = program(state, batch)
    norm = float(state.gradient_norm)
    rounds = []
    for _ in range(_ROUNDS):
        jax.block_until_ready(state)
        start = time.perf_counter()
        for _ in range(_STEPS):
            state = program(state, batch)
        jax.block_until_ready(state)
        rounds.append((time.perf_counter() - start) / _STEPS)
    return {
        "seconds": statistics.median(rounds),
        "compile_seconds": compile_seconds,
        "gradient_norm": norm,
        "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
    }


def main(argv: list[str]) -> None:
    """Measure both, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    left, device = Budget(_BUDGET.value), jax.devices()[0]
    if device.platform != "gpu" and not _DRY_RUN.value:
        sys.exit(f"no GPU: JAX finds {device.device_kind} alone (--dry_run tries the program)")
    file = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    config, schema = experiment_config(_CONFIG.value), with_few_rows(schema_of(file), _MOST_ROWS)
    batch_size, kernels = _BATCH_SIZE.value, "triton"
    if _DRY_RUN.value:
        config, schema = shrunk(config, schema)
        batch_size, kernels = 2, "triton_interpret"
    ceilings = measure_ceilings(128, 1e6) if _DRY_RUN.value else measure_ceilings()
    batch = random_batch(config, schema, batch_size)
    flops = 3 * batch_size * sum(flops_by_module(config.model, schema).values())
    results: dict[str, dict[str, Any]] = {}
    for name in (kernels, "xla"):
        if not left.left:
            results[name] = {"note": "skipped: time budget"}
            continue
        try:
            results[name] = measure(with_kernels(config, name), schema, batch)
        except jax.errors.JaxRuntimeError as error:
            results[name] = {"note": f"failed: {first_line(error)}"}
    for result in results.values():
        if "seconds" in result:
            result["examples_per_second"] = batch_size / result["seconds"]
            result["mfu"] = flops / result["seconds"] / ceilings.flops_per_second
    content = {
        "benchmark": "train_step",
        "dry_run": _DRY_RUN.value,
        "device": device.device_kind,
        "config": file.name,
        "batch_size": batch_size,
        "flops_per_step": flops,
        "ceilings": ceilings._asdict(),
        "results": results,
        "environment": environment(("jax", "jaxlib", "flax", "numpy")),
    }
    if _OUT.value or not _DRY_RUN.value:  # a dry run never stands among the results
        write_json(pathlib.Path(_OUT.value or RESULTS / "train_step.json"), content)
    report(content, kernels)


def report(content: dict[str, Any], kernels: str) -> None:
    """Print the table; exit where a time is missing or the gradients differ."""
    results = content["results"]
    print(f"{content['config']}, batch {content['batch_size']}, on {content['device']}")
    print(f"{'kernels':18s} {'ms':>9s} {'examples/s':>11s} {'MFU':>7s} {'GB temp':>8s}")
    for name, result in results.items():
        if "note" in result:
            print(f"{name:18s} {result['note']}")
            continue
        print(
            f"{name:18s} {1e3 * result['seconds']:9.2f} {result['examples_per_second']:11.0f} "
            f"{result['mfu']:7.1%} {result['temporary_bytes'] / 1e9:8.2f}"
        )
    if any("note" in result for result in results.values()):
        sys.exit("no comparison: a time is missing")
    norms = [results[name]["gradient_norm"] for name in (kernels, "xla")]
    difference = abs(norms[0] - norms[1]) / abs(norms[1])
    speedup = results["xla"]["seconds"] / results[kernels]["seconds"]
    verdict = "met" if speedup >= LEAST_SPEEDUP else "not met"
    print(f"{speedup:.2f} times as fast with kernels; goal >= {LEAST_SPEEDUP}: {verdict}")
    if content["dry_run"]:
        print("a dry run: its times mean nothing")
    if not difference <= TOLERANCE:
        sys.exit(f"gradient norms differ by {difference:.1e}, expected <= {TOLERANCE}")


def schema_of(file: pathlib.Path) -> Schema:
    """Return the `schema()` of a config file."""
    make = runpy.run_path(str(file)).get("schema")
    if make is None:
        sys.exit(f"{file}: expected a function `schema`, which says what a batch holds")
    return make()


if __name__ == "__main__":
    app.run(main)
