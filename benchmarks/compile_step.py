"""The training step of a configuration, compiled for GPUs that are not attached.

    pip install -e ".[aot]"
    python -m benchmarks.compile_step --config=configs/b200.py --gpu=b200 --devices=8

Prints what XLA says of the memory of each device, the kernels that the step calls, and every kind
of collective with its number and bytes; writes them as JSON.
"""

import collections
import dataclasses
import importlib.util
import json
import pathlib
import re
import sys
import time
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from kunlun_jax.plan import absent_gpu
from benchmarks.collectives import collectives
from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.config import ExperimentConfig, experiment_config
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.schema import Schema
from kunlun_jax.flops import flops_by_module
from kunlun_jax.models.registry import create_model
from kunlun_jax.sharding import batch_sharding, make_mesh
from kunlun_jax.training.step import make_train_step, state_shapes
from pallas_kernels.tile_choices import choices_for

CONFIG = config_flags.DEFINE_config_file("config", "configs/b200.py", "Config file.")
_GPU = flags.DEFINE_string("gpu", "b200", f"Of {', '.join(absent_gpu.GPUS)}.")
_DEVICES = flags.DEFINE_integer("devices", 8, "GPUs of the node.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "compile_step.json"), "Where the JSON goes.")
_NUM_STEPS = 1000


def compile_step(
    config: ExperimentConfig, schema: Schema, gpu: str, num_devices: int
) -> dict[str, Any]:
    """Compile the training step and return what there is to report.

    Args:
        config: The experiment.
        schema: The data set's schema.
        gpu: A key of `absent_gpu.GPUS`.
        num_devices: GPUs of the node.
    """
    if config.model.kernels == "auto":  # would ask the machine that compiles
        model = dataclasses.replace(config.model, kernels="triton")
        config = dataclasses.replace(config, model=model)
    devices = absent_gpu.topology(gpu, f"1x1x{num_devices}").devices
    mesh = make_mesh(config.mesh, devices)
    max_lens = {stream.name: stream.max_len for stream in config.model.streams}
    batch = batch_shapes(schema, max_lens, config.data.batch_size)
    model = create_model(config, schema)
    state = state_shapes(model, config, batch, mesh, num_steps=_NUM_STEPS)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)), batch
    )
    step = make_train_step(model, schema, config, num_steps=_NUM_STEPS)
    start = time.time()
    with choices_for(absent_gpu.GPUS[gpu].capability), jax.set_mesh(mesh):
        traced = jax.jit(step, donate_argnums=0).trace(state, batch)
        lowered = traced.lower(lowering_platforms=("cuda",))
        text = lowered.as_text()
        compiled = lowered.compile()
    hlo = compiled.as_text()
    memory = compiled.memory_analysis()
    fields = ("argument", "output", "alias", "temp")
    sizes = {name: getattr(memory, f"{name}_size_in_bytes") for name in fields}
    kernels = collections.Counter(
        re.findall(r'@__gpu\$xla\.gpu\.triton\(.*?\bname = "(\w+)"', text)
    )
    return {
        "gpu": gpu,
        "devices": num_devices,
        "batch_size": config.data.batch_size,
        "compile_seconds": round(time.time() - start, 1),
        "parameters": _count(state.params),
        "table_rows": sum(table.shape[0] for table in state.tables.values()),
        "flops_per_example": sum(flops_by_module(config.model, schema).values()),
        "bytes_per_device": sizes,
        "peak_bytes_per_device": sizes["argument"]
        + sizes["output"]
        - sizes["alias"]
        + sizes["temp"],
        "kernels": dict(kernels),
        "collectives": collectives(hlo),
    }


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def main(argv: list[str]) -> None:
    """Compile, print and write."""
    del argv
    try:
        absent_gpu.require_packages()
    except absent_gpu.MissingPackagesError as error:
        sys.exit(f"error: expected pip install -e '.[aot]', without it there is no {error}")
    file = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    schema = config_module(file).schema()
    result = compile_step(experiment_config(CONFIG.value), schema, _GPU.value, _DEVICES.value)
    record = {**environment(("jax", "jaxlib", "flax")), "config": file.name, **result}
    write_json(pathlib.Path(_OUT.value), record)
    print(json.dumps(result, indent=1))


def config_module(file: pathlib.Path) -> Any:
    """Import a config file by its path, for its `schema`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    app.run(main)
