"""Floating-point operations of every module, forward, per example, counted in the traced model.

Counted are matrix products, 2 operations a multiply-add, at full history length; of attention, the
pairs that its mask lets through, which its layer says (`layers/model_products.py`). The keys are
the paths of the Linen modules, so that a table can set operations beside parameters. Work shared by
the whole batch (the seeds' query projection) is left out.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from kunlun_jax.config import ModelConfig
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.model_products import model_products_of
from kunlun_jax.models.registry import MODELS

_STREAM_MODULES = ("encoder", "attention", "final_pooling")  # of the model itself
_STREAM_LAYERS = ("pooling", "pffn", "attention")  # of its layers
# Examples of the batch that is traced and never made. A prime above all other dimensions: what it
# divides has the batch among its dimensions, and the rest is shared.
_BATCH_SIZE = 1_000_003


def flops_by_module(model: ModelConfig, schema: Schema) -> Mapping[str, int]:
    """Return forward operations per example by module path, such as "layer_0/click_pffn".

    Args:
        model: The model.
        schema: The data set's schema.
    """
    return dict(_counted(dataclasses.replace(model, kernels="xla"), schema))


@functools.lru_cache(maxsize=8)
def _counted(model: ModelConfig, schema: Schema) -> dict[str, int]:
    module = MODELS[model.name](model, schema)
    max_lens = {stream.name: stream.max_len for stream in model.streams}
    batch = batch_shapes(schema, max_lens, _BATCH_SIZE)
    variables = jax.eval_shape(module.init, jax.random.key(0), batch)
    jaxpr = jax.make_jaxpr(module.apply)(variables, batch)
    counts = {"embedding": 0}
    masked: set[str] = set()
    for scope, operations in operations_by_scope(jaxpr):
        counts.setdefault(path := module_path(scope), 0)
        useful = model_products_of(scope)
        if useful is None:
            counts[path] += operations // _BATCH_SIZE if operations % _BATCH_SIZE == 0 else 0
        elif path not in masked:
            counts[path] += useful
            masked.add(path)
    # A module that multiplies nothing is listed if it has parameters, or is the context.
    told = {"context", *variables["params"]}
    return {
        path: count
        for path, count in counts.items()
        if count or (path in told and not is_layer(path))
    }


def operations_by_scope(jaxpr: Any, scope: str = "") -> Iterator[tuple[str, int]]:
    """Yield scope and operations of every equation of a traced function: of matrix products.

    Of a kernel's, what its cost estimate says: the pairs that its operation defines.

    Args:
        jaxpr: What `jax.make_jaxpr` returned, or a part of it.
        scope: What its scopes are inside of.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in jaxpr.eqns:
        inside = f"{scope}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        if name == "pallas_call":
            yield inside, equation.params["cost_estimate"].flops
            continue
        yield inside, product_flops(equation) if name == "dot_general" else 0
        if name == "while":
            raise NotImplementedError(f"{inside}: expected operations that shapes tell, got {name}")
        times = equation.params["length"] if name == "scan" else 1
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else [parameter]:
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    for path, operations in operations_by_scope(inner, inside):
                        yield path, times * operations


def product_flops(equation: Any) -> int:
    """Return the operations of a `dot_general`.

    Args:
        equation: Its equation in a jaxpr.
    """
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[i] for i in contracted)


def module_path(scope: str) -> str:
    """Return the module that a scope of a model's forward pass is in: of layers, its part.

    Args:
        scope: Such as "/Kunlun/Kunlun.trunk/layer_0/click_pffn/keys".
    """
    parts = [part for part in scope.split("/") if part and not part.endswith(".trunk")][1:]
    return "/".join(parts[: 2 if parts and is_layer(parts[0]) else 1])


def flops_by_stream(model: ModelConfig, schema: Schema) -> dict[str, int]:
    """Return forward operations per example of each stream's own modules.

    Args:
        model: The model.
        schema: The data set's schema.
    """
    modules = flops_by_module(model, schema)
    return {
        stream.name: sum(
            count
            for path, count in modules.items()
            if path.rsplit("/", 1)[-1]
            in {
                f"{stream.name}_{kind}"
                for kind in (_STREAM_LAYERS if "/" in path else _STREAM_MODULES)
            }
        )
        for stream in model.streams
    }


def is_layer(module: str) -> bool:
    """Return whether a module of the model is one of its layers: no stream's, whatever its name.

    Args:
        module: Name, such as "layer_0".
    """
    return re.fullmatch(r"layer_[0-9]+", module) is not None
