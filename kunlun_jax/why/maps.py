"""What the attention of Kunlun looks at for one request.

    GDPA      act_n(s_in * q_t . k_s)                       of every event and slot of the weights
    pooling   softmax_t(seed_p . k_t / sqrt(H))             of every seed, over the real events

Inputs of the modules are taken from the forward pass itself; the maps are made of them again, since
the operations never have them as a whole.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.config import MeshConfig, ModelConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.normalization import layer_norm, rms_norm
from kunlun_jax.layers.pffn import PFFN
from kunlun_jax.layers.seed_pooling import SeedPooling
from kunlun_jax.sharding import make_mesh
from kunlun_jax.training.step import apply_model
from pallas_kernels.activations import activate

GDPA, POOLING = "GDPA", "pooling"


class AttentionMap(NamedTuple):
    """Weights of one module for one request.

    Attributes:
        module: Path of the module, such as "layer_0/click_pffn".
        kind: `GDPA` or `POOLING`.
        stream: Name of the stream.
        weights: float32 [heads, rows, events], of the real events, oldest first; a row is a slot of
            the personalised weights, or a seed.
    """

    module: str
    kind: str
    stream: str
    weights: np.ndarray


def attention_maps(module: nn.Module, params: Any, tables: Any, batch: Batch) -> list[AttentionMap]:
    """Return the maps of a request, in the order of the forward pass.

    Args:
        module: The model; one without these modules has no maps.
        params: Dense parameters.
        tables: Embedding tables.
        batch: A batch of one.
    """
    order: list[tuple[str, str, str]] = []

    def forward(params: Any, tables: Any, batch: Batch) -> dict[str, Any]:
        inputs: dict[str, tuple[nn.Module, Any]] = {}
        outputs: dict[str, Any] = {}

        def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            path = "/".join(context.module.path)
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            if isinstance(context.module, PFFN | SeedPooling):
                inputs[path] = context.module, args[0]
            outputs[path] = call(*args, **kwargs)
            return outputs[path]

        with nn.intercept_methods(watch):
            apply_model(module, params, tables, batch)
        found: dict[str, Any] = {}
        order.clear()
        for path, (one, events) in inputs.items():
            if isinstance(one, SeedPooling):
                found[path] = _pooling(one, params, outputs[f"{path}/query"], events, path)
            elif isinstance(one, PFFN) and one.config.pffn == "gdpa":
                found[path] = _gdpa(one, params, outputs[f"{path}/keys"], events, path)
            else:
                continue
            kind = POOLING if isinstance(one, SeedPooling) else GDPA
            order.append((path, kind, _stream_of(path, kind)))
        return found

    with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        scores = jax.tree.map(np.asarray, jax.jit(forward)(params, tables, batch))
    maps = []
    for path, kind, stream in order:
        length = int(np.asarray(batch.streams[stream].lengths)[0])
        weights = scores[path][:, :, :length]
        if kind == POOLING and length:
            weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
            weights /= weights.sum(axis=-1, keepdims=True)
        maps.append(AttentionMap(path, kind, stream, weights))
    return maps


def has_maps(model: ModelConfig) -> bool:
    """Return whether a model has modules that `attention_maps` knows."""
    return model.name == "kunlun"


def _stream_of(path: str, kind: str) -> str:
    """Return the stream of a module, whose name begins with the stream's."""
    *layer, name = path.split("/")
    ending = "_pffn" if kind == GDPA else "_pooling" if layer else "_final_pooling"
    return name.removesuffix(ending)


def _gdpa(module: PFFN, params: Any, keys: Any, events: Any, path: str) -> Any:
    """Return the activated scores of the first example, [heads, slots, T]."""
    config, heads = module.config, module.num_heads
    query = layer_norm(events)[0].reshape(len(events[0]), heads, -1)
    key = rms_norm(keys[0].reshape(len(keys[0]), heads, -1))
    scale = jnp.ones(heads)
    if config.temperature == "inside":
        scale = _parameters(params, path)["gain"] / module.max_len
    scores = jnp.einsum("tnh,snh->nst", query, key, preferred_element_type=jnp.float32)
    scores *= scale[:, None, None]
    names = config.activation * heads if len(config.activation) == 1 else config.activation
    return jnp.stack([activate(row, name) for row, name in zip(scores, names, strict=True)])


def _pooling(module: SeedPooling, params: Any, query: Any, events: Any, path: str) -> Any:
    """Return the scores of the first example before the softmax, [heads, seeds, T]."""
    seeds = query.reshape(len(query), module.num_heads, -1)
    to_key, _ = jnp.split(_parameters(params, path)["key_value"]["kernel"], 2, axis=-1)
    key = layer_norm(events)[0] @ to_key.astype(events.dtype)
    key = key.reshape(len(key), *seeds.shape[1:])
    product = jnp.einsum("pnh,tnh->npt", seeds, key, preferred_element_type=jnp.float32)
    return product / seeds.shape[-1] ** 0.5


def _parameters(params: Any, path: str) -> Any:
    """Return the parameters of a module."""
    for part in path.split("/"):
        params = params[part]
    return params
