"""Writes a trained model into a folder that is used without this package.

model.bin       the function of weights and inputs, as `jax.export` serializes it (StableHLO),
for CPUs and NVIDIA GPUs and for any number of examples
weights.bin     parameters and tables, one after the other
vocabulary-*    the values of every vocabulary that was built from tables
reader.py       makes inputs of requests, and calls the function
manifest.json   schema with statistics, shapes, versions, and a checksum of every file
"""

import dataclasses
import hashlib
import json
import pathlib
import shutil
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import kunlun_jax.serving.reader
from kunlun_jax.data.batch import Batch, EventBatch, SparseBatch, batch_shapes
from kunlun_jax.data.format import DatasetError
from kunlun_jax.files import discard_parts, json_sha256, part_of, settle
from kunlun_jax.models.registry import create_model
from kunlun_jax.serving.reader import FORMAT
from kunlun_jax.serving.trained import Trained
from kunlun_jax.training.step import apply_model

PLATFORMS = ("cpu", "cuda")


def export(trained: Trained, out: pathlib.Path) -> None:
    """Write a model into a new folder, all at once.

    The attention operations are exported as XLA has them, which every platform can run.

    Args:
        trained: The model.
        out: The folder.

    Raises:
        DatasetError: If it exists.
        ImportError: If flatbuffers is not installed, by which JAX serializes functions.
        OSError: If it cannot be written.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already; remove it or choose another folder")
    weights = jax.tree.leaves((trained.params, trained.tables))
    arrays = [np.asarray(weight) for weight in weights]
    files = {
        "model.bin": _serialized(trained),
        "weights.bin": b"".join(np.ascontiguousarray(array).tobytes() for array in arrays),
        "reader.py": pathlib.Path(kunlun_jax.serving.reader.__file__).read_bytes(),
    }
    vocabularies = {}
    for number, (name, values) in enumerate(sorted(trained.vocabularies.items())):
        vocabularies[name] = f"vocabulary-{number:03d}.json"
        files[vocabularies[name]] = json.dumps(values).encode()
    content = {
        "format": FORMAT,
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "model": trained.config.model.name,
        "step": trained.step,
        "checkpoint": trained.checksum,
        "schema": trained.schema.to_json(),
        "max_lens": trained.max_lens,
        "keys": trained.has_keys,
        "vocabularies": vocabularies,
        "weights": [[array.dtype.name, list(array.shape)] for array in arrays],
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ],
    }
    manifest = {**content, "sha256": json_sha256(content)}
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    discard_parts(out)
    part = part_of(out)
    try:
        part.mkdir()
        for name, data in files.items():
            (part / name).write_bytes(data)
        (part / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        settle(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _serialized(trained: Trained) -> bytes:
    """Return the function (weights, inputs) -> logits [B, L], of trees of lists and dictionaries.

    `inputs` are what of a batch a model reads, by the names of its fields.
    """
    config = dataclasses.replace(
        trained.config, model=dataclasses.replace(trained.config.model, kernels="xla")
    )
    model = create_model(config, trained.schema)
    structure = jax.tree.structure((trained.params, trained.tables))
    num_tasks = len(trained.schema.labels)

    def logits(weights: list[Any], inputs: dict[str, Any]) -> Any:
        params, tables = jax.tree.unflatten(structure, weights)
        return apply_model(model, params, tables, _batch(inputs, num_tasks))

    (size,) = jax.export.symbolic_shape("b")
    shapes = batch_shapes(trained.schema, trained.max_lens, 1)
    inputs = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), inputs_of(shapes)
    )
    weights = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for leaf in jax.tree.leaves((trained.params, trained.tables))
    ]
    exported = jax.export.export(jax.jit(logits), platforms=PLATFORMS)(weights, inputs)
    return bytes(exported.serialize())


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Return what of a batch a model reads, as plain dictionaries.

    Args:
        batch: A batch, or its shapes.
    """
    return {
        "dense": batch.dense,
        "sparse": {name: _fields(values) for name, values in batch.sparse.items()},
        "streams": {name: _fields(events) for name, events in batch.streams.items()},
    }


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _batch(inputs: dict[str, Any], num_tasks: int) -> Batch:
    size = inputs["dense"].shape[0]
    return Batch(
        dense=inputs["dense"],
        sparse={name: SparseBatch(**values) for name, values in inputs["sparse"].items()},
        streams={name: EventBatch(**events) for name, events in inputs["streams"].items()},
        labels=jnp.zeros((size, num_tasks)),
        weights=jnp.ones(size),
        user_ids=jnp.zeros(size, jnp.int32),
    )
