"""Why an update was not finite: the batch is kept, and replayed module by module, outside of jit.

batch = load_batch("runs/base/nonfinite/step_41/batch.npz")
"""

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from kunlun_jax.data.batch import Batch, EventBatch, SparseBatch
from kunlun_jax.data.schema import Schema
from kunlun_jax.files import publish
from kunlun_jax.tables import TableState
from kunlun_jax.training.step import apply_model, weighted_loss

BATCH_FILE = "batch.npz"
REPORT_FILE = "report.json"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Where NaN or infinity arose, in the order of computation; empty where nowhere.

    Attributes:
        inputs: Arrays of the batch, parameters and tables that are not finite themselves.
        forward: Modules that made something not finite out of what was finite.
        backward: Modules with a parameter, and tables, whose gradient is not finite although all of
            the above is; the one that the backward pass reached first comes first.
    """

    inputs: tuple[str, ...]
    forward: tuple[str, ...]
    backward: tuple[str, ...]

    def __str__(self) -> str:
        for what, names in (
            ("it came in with", self.inputs),
            ("it arose forward in", self.forward),
            ("it arose backward in", self.backward),
        ):
            if names:
                return f"{what} {names[0]}"
        return "it does not arise when the step is replayed without compilation"


def diagnose(
    model: nn.Module,
    schema: Schema,
    params: Any,
    tables: Any,
    batch: Batch,
    *,
    task_weights: Sequence[float] | None = None,
) -> Diagnosis:
    """Replay a training step on a batch and name what was not finite first.

    Args:
        model: The model.
        schema: The data set's schema.
        params: Dense parameters.
        tables: Embedding tables by vocabulary.
        batch: The batch.
        task_weights: As of `weighted_loss`.
    """
    batch = jax.tree.map(jnp.asarray, batch)
    small, local, _ = TableState(tables, {}).gather(batch, schema)
    inputs = {"batch": batch, "parameters": params, "tables": tables}
    calls, forward = _watch_calls(lambda: apply_model(model, params, small, local))
    if forward or _nonfinite(inputs):
        return Diagnosis(inputs=tuple(_nonfinite(inputs)), forward=tuple(forward), backward=())

    def loss(params: Any, tables: Any) -> Any:
        logits = apply_model(model, params, tables, local)
        return weighted_loss(logits, batch, task_weights)

    gradients, table_gradients = jax.grad(loss, argnums=(0, 1))(params, small)
    modules = {name.rpartition("/")[0] for name in _nonfinite(gradients)}
    reached = sorted(modules, key=lambda name: calls.index(name) if name in calls else -1)
    return Diagnosis(
        inputs=(),
        forward=(),
        backward=(*reversed(reached), *(f"tables/{name}" for name in _nonfinite(table_gradients))),
    )


def save_diagnosis(directory: pathlib.Path, batch: Batch, diagnosis: Diagnosis) -> None:
    """Write the batch and the diagnosis into a directory, made if missing.

    Args:
        directory: Where they go.
        batch: The batch, as it came from the pipeline.
        diagnosis: What was found.

    Raises:
        OSError: If they cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    leaves: dict[str, Any] = dict(flatten_dict(_to_mapping(batch), sep="/"))
    content = io.BytesIO()
    np.savez_compressed(content, **leaves)
    publish(directory / BATCH_FILE, content.getvalue())
    report = json.dumps(dataclasses.asdict(diagnosis), indent=1)
    publish(directory / REPORT_FILE, report + "\n")


def load_batch(path: str | pathlib.Path) -> Batch:
    """Return the batch that `save_diagnosis` wrote.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    with np.load(path) as file:
        content = unflatten_dict({_leaf_path(key): file[key] for key in file.files})
    content["sparse"] = {k: SparseBatch(**v) for k, v in content.get("sparse", {}).items()}
    content["streams"] = {
        k: EventBatch(**{"ids": {}, "matches": {}, **v})
        for k, v in content.get("streams", {}).items()
    }
    return Batch(**content)


def _leaf_path(key: str) -> tuple[str, ...]:
    """Take a leaf's key apart; names of features, unlike those of streams, may hold a "/"."""
    kind, _, rest = key.partition("/")
    if kind == "sparse":
        name, _, leaf = rest.rpartition("/")
        return kind, name, leaf
    return tuple(key.split("/", 3))


def _to_mapping(batch: Batch) -> dict[str, Any]:
    return jax.tree.map(np.asarray, dataclasses.asdict(batch))  # type: ignore[call-overload]


def _watch_calls(apply: Callable[[], Any]) -> tuple[list[str], list[str]]:
    """Run a model; return its modules in the order they were entered, and where NaN arose."""
    entered: list[str] = []
    arose: list[str] = []

    def watch(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return next_function(*args, **kwargs)
        name = "/".join(context.module.path) or type(context.module).__name__
        entered.append(name)
        before = len(arose)
        output = next_function(*args, **kwargs)
        # A module inside, which has returned already, names the origin better than this one.
        if len(arose) == before and _nonfinite(output) and not _nonfinite((args, kwargs)):
            arose.append(name)
        return output

    with nn.intercept_methods(watch):
        apply()
    return entered, arose


def _nonfinite(tree: Any) -> list[str]:
    """Name the leaves that hold NaN or infinity."""
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.all(jnp.isfinite(leaf)))
    ]
