"""Models of one stream and six tables: what is measured beside PyTorch, and how time grows."""

import dataclasses

from kunlun_jax.config import ExperimentConfig, ModelConfig, StreamConfig, WukongConfig
from kunlun_jax.data import schema as schemas


@dataclasses.dataclass(frozen=True)
class Size:
    """What is trained.

    Attributes:
        batch: Examples B.
        events: Events T of the one stream.
        dim: Width D, and D_e.
        layers: Layers.
        heads: Heads N.
        summary: Summary tokens G.
        kv: GDPA key/value length K.
        seeds: Seeds P.
        tokens: Pooled tokens Q.
        window: Events that attention sees to each side.
        experts: Wukong experts E.
        rows: Rows of each of the six tables.
    """

    batch: int
    events: int
    dim: int
    layers: int
    heads: int
    summary: int
    kv: int
    seeds: int
    tokens: int
    window: int
    experts: int
    rows: int


SIZES = {
    "tiny": Size(8, 16, 8, 2, 2, 4, 8, 8, 4, 4, 2, 50),
    "base": Size(256, 64, 64, 2, 1, 8, 16, 8, 4, 16, 2, 20_000),
    "reference": Size(512, 128, 64, 4, 4, 16, 64, 64, 16, 32, 2, 100_000),
    "wide": Size(32, 512, 256, 4, 4, 48, 256, 64, 32, 100, 8, 100_000),
}


def experiment(size: Size) -> ExperimentConfig:
    """Return the experiment of a size."""
    stream = StreamConfig(
        name="view", model_dim=size.dim, num_heads=size.heads, n_kv=size.kv, n_tokens=size.tokens,
        n_seeds=size.seeds, num_layers=size.layers, window=size.window, max_len=size.events,
        mlp_dim=size.dim,
    )  # fmt: skip
    model = ModelConfig(
        dim=size.dim,
        num_layers=size.layers,
        n_sum=size.summary,
        streams=(stream,),
        wukong=WukongConfig(num_experts=size.experts, mlp_dim=2 * size.dim),
        count_features=False,  # the schema declares none
        popularity_features=False,
        head_dims=(4 * size.dim, 2 * size.dim),
        head_context=False,
    )
    return ExperimentConfig(model=model)


def schema(size: Size) -> schemas.Schema:
    """Return the schema: six tables, of which three are of the candidate and of events."""
    names = ("item", "brand", "category", "user", "shop", "device")
    shared = names[:3]
    return schemas.Schema(
        name="twin",
        vocabularies=tuple(schemas.Vocabulary(name, size.rows - 1) for name in names),
        dense=(schemas.DenseFeature("price"), schemas.DenseFeature("hour")),
        sparse=tuple(schemas.SparseFeature(name, name) for name in names),
        candidate=shared,
        streams=(
            schemas.EventStream(
                "view",
                tuple(schemas.EventId(name, name) for name in shared),
                (schemas.DenseFeature("seconds"),),
                max_len=size.events,
            ),
        ),
        labels=("click",),
    )
