"""What the kernels are compared with, in JAX: the same operations written in other ways.

- "unfused": the formula as einsums and elementwise functions over all pairs of rows, as a model
  would hold it without this package. XLA fuses what it can.
- "xla": `implementation="xla"` of the public functions; a window is banded there.
- "cudnn": cuDNN's fused attention by way of `jax.nn`, where its formula is the same. It refuses a
  `local_window_size` that reaches to both sides, and gets the window as a mask of the full square.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.workloads import Workload, operation
from pallas_kernels.rotation import rotate, rotation_angles, sin_cos

NAMES = ("unfused", "xla", "cudnn")


class NotApplicableError(Exception):
    """The baseline has no such operation; the message says why."""


def function(name: str, workload: Workload, kernels: str) -> Callable[..., jax.Array]:
    """Return a function of (query, key, value, **options) of the public functions.

    Args:
        name: "kernels" or one of `NAMES`.
        workload: sizes.
        kernels: implementation that "kernels" stands for.

    Raises:
        NotApplicableError: the baseline does not compute the workload's operation.
    """
    if name == "kernels":
        return operation(workload, kernels)
    if name == "xla":
        return operation(workload, "xla")
    if name == "unfused":
        return _unfused_gdpa(workload) if workload.operation == "gdpa" else _unfused(workload)
    if workload.operation == "gdpa":
        raise NotApplicableError("GDPA has no softmax")
    return _cudnn(workload)


def _valid(lengths: jax.Array, size: int) -> jax.Array:
    return jnp.arange(size) < lengths[:, None]


def _near(workload: Workload) -> jax.Array:
    rows = jnp.arange(workload.rows)
    return jnp.abs(rows[:, None] - rows) <= workload.window


def _turned(workload: Workload, query: Any, key: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    if not workload.rotated:
        return query, key
    names = ("positions", "times", "position_frequencies", "time_frequencies")
    angles = rotation_angles(*(options[name] for name in names), None)
    assert angles is not None
    sin, cos = sin_cos(angles)
    return rotate(query, sin, cos), rotate(key, sin, cos)


def _unfused_gdpa(workload: Workload) -> Callable[..., jax.Array]:
    w, half = workload, workload.lengths == "half"

    def call(query: Any, key: Any, value: Any, *, query_lengths: Any, key_lengths: Any) -> Any:
        dots = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.gelu(dots * w.head_dim**-0.5, approximate=True)
        if w.jagged_keys and half:
            weights *= _valid(key_lengths, w.keys)[:, None, None]
        out = jnp.einsum("bnts,bsnh->btnh", weights.astype(value.dtype), value)
        return out * _valid(query_lengths, w.rows)[..., None, None] if half else out

    return call


def _unfused(workload: Workload) -> Callable[..., jax.Array]:
    w, half = workload, workload.lengths == "half"
    rows = "pnh" if w.operation == "seed" else "btnh"
    pairs = "bnts".replace("t", rows[-3])

    def call(query: Any, key: Any, value: Any, *, lengths: Any, **rotation: Any) -> Any:
        query, key = _turned(w, query, key, rotation)
        scores = jnp.einsum(f"{rows},bsnh->{pairs}", query, key, preferred_element_type=jnp.float32)
        mask = _valid(lengths, w.keys)[:, None, None] if half else None
        if w.operation == "window":
            mask = _near(w) if mask is None else _near(w) & mask
        weights = jax.nn.softmax(scores * w.head_dim**-0.5, axis=-1, where=mask)
        out = jnp.einsum(f"{pairs},bsnh->b{rows[-3]}nh", weights.astype(value.dtype), value)
        if half and w.operation == "window":
            out = out * _valid(lengths, w.rows)[..., None, None]
        return out

    return call


def _cudnn(workload: Workload) -> Callable[..., jax.Array]:
    w, half = workload, workload.lengths == "half"

    def call(query: Any, key: Any, value: Any, *, lengths: Any, **rotation: Any) -> Any:
        query, key = _turned(w, query, key, rotation)
        options: dict[str, Any] = {}
        if w.operation == "seed":
            query = jnp.broadcast_to(query, (w.batch, *query.shape))
        else:
            options["mask"] = _near(w)[None, None]
        if half:
            options["key_value_seq_lengths"] = lengths
            if w.operation == "window":
                options["query_seq_lengths"] = lengths
        return jax.nn.dot_product_attention(query, key, value, implementation="cudnn", **options)

    return call
