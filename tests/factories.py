"""A tiny schema, batches and models for tests that need no data on disk.

model = kunlun(config())                          # two streams, four layers
variables = drawn_variables(model, batch())       # random numbers for parameters and tables
logits = apply(model, variables, batch())         # jitted once per model and shape
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.config import (
    DINConfig,
    GDPAConfig,
    HSTUConfig,
    InterFormerConfig,
    ModelConfig,
    PoolingConfig,
    ROTEConfig,
    StreamConfig,
    TokenFormerConfig,
    UniDotConfig,
    WukongConfig,
)
from kunlun_jax.data import schema as schemas
from kunlun_jax.data.batch import Batch, EventBatch, SparseBatch
from kunlun_jax.layers.embedding import Embedding
from kunlun_jax.models import MODELS, Kunlun, Recommender
from kunlun_jax.training.step import weighted_loss
from tests.compiling import jit

DAY = 86_400
SCHEMA = schemas.Schema(
    name="tiny",
    vocabularies=(
        schemas.Vocabulary("item", 300),
        schemas.Vocabulary("brand", 4),
        schemas.Vocabulary("tag", 6),
    ),
    dense=(
        schemas.DenseFeature("price"),
        schemas.DenseFeature("hour"),
        schemas.DenseFeature("count"),
    ),
    sparse=(
        schemas.SparseFeature("item", "item"),
        schemas.SparseFeature("brand", "brand"),
        schemas.SparseFeature("tags", "tag", max_values=3, combiner="sum"),
    ),
    candidate=("item", "brand"),
    streams=(
        schemas.EventStream(
            "buy",
            (schemas.EventId("item", "item"), schemas.EventId("brand", "brand")),
            (schemas.DenseFeature("amount"), schemas.DenseFeature("price")),
            max_len=12,
        ),
        schemas.EventStream(
            "view",
            (schemas.EventId("item", "item"),),
            (schemas.DenseFeature("seconds"),),
            max_len=8,
        ),
    ),
    labels=("click", "order"),
)
# Context tokens of the schema: the candidate, the dense features, and three sparse features.
NUM_CONTEXT_TOKENS = 5

BUY = StreamConfig(
    name="buy", model_dim=8, num_heads=2, n_kv=6, n_tokens=2, n_seeds=4, num_layers=4, window=2,
    max_len=10, mlp_dim=8,
)  # fmt: skip
VIEW = StreamConfig(
    name="view", model_dim=12, num_heads=3, n_kv=5, n_tokens=3, n_seeds=5, num_layers=4, window=1,
    max_len=7, mlp_dim=6,
)  # fmt: skip
_PARTS = {
    "gdpa": GDPAConfig(),
    "rote": ROTEConfig(),
    "pooling": PoolingConfig(rank=2),
    "wukong": WukongConfig(num_experts=2, fm_rank=2, mlp_dim=6, num_tokens=6),
    "din": DINConfig(attention_dims=(6,)),
    "interformer": InterFormerConfig(num_heads=2, num_pma=2, num_recent=2),
    "hstu": HSTUConfig(num_heads=2, num_time_buckets=2),
    "tokenformer": TokenFormerConfig(num_heads=2, num_full_layers=1, windows=(5, 2), ffn_dim=6),
    "unidot": UniDotConfig(num_heads=2, window=2, num_items=2, num_pooled=3, gate_dim=5, ffn_dim=6),
}


def config(*, streams: tuple[StreamConfig, ...] = (BUY, VIEW), **changes: Any) -> ModelConfig:
    """Return a tiny model's configuration; a part's changes are given as a dictionary.

    config(comp_skip=False, wukong={"partition": "full"})
    """
    parts = {
        name: dataclasses.replace(part, **changes.pop(name, {})) for name, part in _PARTS.items()
    }
    none = {"count_features": False, "popularity_features": False}  # SCHEMA declares no columns
    sizes = {"dim": 8, "num_layers": 4, "n_sum": 3, "head_dims": (6,)}
    settings = {**sizes, **none, **parts, **changes}
    return ModelConfig(streams=streams, **settings)


def kunlun(model: ModelConfig | None = None) -> Kunlun:
    """Return the model of a configuration, for `SCHEMA`."""
    return Kunlun(model or config(), SCHEMA)


def recommender(model: ModelConfig) -> Recommender:
    """Return the model that a configuration names, for `SCHEMA`."""
    return MODELS[model.name](model, SCHEMA)


def batch(
    *,
    lengths: dict[str, list[int]] | None = None,
    size: int = 3,
    seed: int = 0,
    max_lens: dict[str, int] | None = None,
) -> Batch:
    """Return a random batch of `SCHEMA` with zeros behind the true lengths.

    Args:
        lengths: Events by stream, one number per example; drawn where not given.
        size: Examples, where lengths are not given.
        seed: Seed of everything drawn.
        max_lens: Padded length of each stream.
    """
    rng = np.random.default_rng(seed)
    max_lens = max_lens or {"buy": BUY.max_len, "view": VIEW.max_len}
    if lengths:
        size = len(next(iter(lengths.values())))
    rows = {v.name: v.num_rows for v in SCHEMA.vocabularies}
    sparse = {}
    for feature in SCHEMA.sparse:
        count = rng.integers(1, feature.max_values + 1, size)
        ids = rng.integers(0, rows[feature.vocabulary], (size, feature.max_values))
        ids = np.where(np.arange(feature.max_values) < count[:, None], ids, 0)
        sparse[feature.name] = SparseBatch(ids.astype(np.int32), count.astype(np.int32))
    streams = {
        stream.name: _events(rng, stream, size, max_lens[stream.name], (lengths or {}))
        for stream in SCHEMA.streams
    }
    return jax.tree.map(
        jnp.asarray,
        Batch(
            dense=rng.normal(size=(size, len(SCHEMA.dense))).astype(np.float32),
            sparse=sparse,
            streams=streams,
            labels=rng.integers(0, 2, (size, len(SCHEMA.labels))).astype(np.float32),
            weights=np.ones(size, np.float32),
            user_ids=np.arange(size, dtype=np.int32),
        ),
    )


def _events(
    rng: np.random.Generator,
    stream: schemas.EventStream,
    size: int,
    max_len: int,
    lengths: dict[str, list[int]],
) -> EventBatch:
    drawn = rng.integers(max_len // 2, max_len + 1, size)
    count = np.asarray(lengths.get(stream.name, drawn), np.int32)
    real = np.arange(max_len) < count[:, None]
    ages = np.sort(rng.integers(0, 90 * DAY, (size, max_len)), axis=1)[:, ::-1]
    rows = {v.name: v.num_rows for v in SCHEMA.vocabularies}
    ids = {
        f.name: np.where(real, rng.integers(0, rows[f.vocabulary], real.shape), 0).astype(np.int32)
        for f in stream.ids
    }
    dense = rng.normal(size=(*real.shape, len(stream.dense)))
    return EventBatch(
        ids=ids,
        dense=np.where(real[..., None], dense, 0).astype(np.float32),
        ages=np.where(real, ages, 0).astype(np.int32),
        lengths=count,
        # Drawn as well: equal ids are too rare. Not by `rng`, so that all else stays what it was.
        matches={
            name: real & (np.random.default_rng(i).random(real.shape) < 0.3)
            for i, name in enumerate(SCHEMA.shared_ids[stream.name])
        },
    )


def drawn_variables(module: nn.Module, *args: Any, seed: int = 0) -> Any:
    """Return random parameters of a module, without running (and compiling) its initialisers.

    Kernels keep variances; biases are not zero, and nothing is aligned.
    """
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: Any) -> Any:
        is_kernel = len(leaf.shape) > 1 and path[0].key != "tables"
        std = leaf.shape[-2] ** -0.5 if is_kernel else 0.5
        return jnp.asarray(rng.normal(0, std, leaf.shape).astype(np.float32))

    return jax.tree_util.tree_map_with_path(draw, nn.meta.unbox(shapes))


def embeddings(tables: dict[str, Any]) -> dict[str, Embedding]:
    """Return what a model makes of tables of its own width."""
    return {v.name: Embedding(tables[v.name], None, v) for v in SCHEMA.vocabularies}


@functools.cache
def _jitted(module: nn.Module) -> Callable[..., Any]:
    return jit(module.apply)


def apply(module: nn.Module, variables: Any, *args: Any) -> Any:
    """Return module.apply(variables, *args), jitted; equal modules share the compilation."""
    return _jitted(module)(variables, *args)


@functools.cache
def loss_gradient(model: Recommender) -> Callable[[Any, Batch], Any]:
    """Return the jitted gradient of the training loss, a function of variables and batch."""

    def loss(variables: Any, batch: Batch) -> Any:
        return weighted_loss(model.apply(variables, batch), batch)

    return jit(jax.grad(loss))


def initialized(module: nn.Module, *args: Any, seed: int = 0) -> Any:
    """Return the parameters that a module's initialisers draw."""
    return nn.meta.unbox(jit(module.init)(jax.random.key(seed), *args))


def float64(tree: Any) -> Any:
    """Return a tree of arrays as NumPy float64, for the oracles."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), nn.meta.unbox(tree))


def assert_formula(
    module: nn.Module, formula: Callable[..., Any], *args: Any, tolerance: float = 1e-5
) -> None:
    """Compare a module, its parameters drawn, with formula(parameters, *arguments) by example.

    Args:
        module: The module.
        formula: The oracle, of float64 arrays.
        args: What the module is applied to, each [B, ...].
        tolerance: Relative and absolute.
    """
    variables = drawn_variables(module, *args)
    p = float64(variables["params"])
    expected = [formula(p, *each) for each in zip(*float64(args), strict=True)]
    actual = apply(module, variables, *args)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def assert_named_axes(variables: Any) -> None:
    """Check that every parameter carries a logical name for each of its axes."""
    is_box = nn.meta.AxisMetadata
    leaves = jax.tree_util.tree_leaves_with_path(variables, is_leaf=lambda x: isinstance(x, is_box))
    for path, box in leaves:
        assert isinstance(box, nn.LogicallyPartitioned), jax.tree_util.keystr(path)
        assert len(box.names) == len(box.value.shape), jax.tree_util.keystr(path)


def array(*shape: int, seed: int = 0) -> Any:
    """Return standard normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def ints(*values: int) -> Any:
    """Return int32 numbers, such as lengths."""
    return jnp.asarray(values, jnp.int32)
