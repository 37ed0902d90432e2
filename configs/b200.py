"""Kunlun at production size, for a node of eight NVIDIA B200.

    python -m benchmarks.compile_step --config=configs/b200.py --gpu=b200

compiles its training step for eight GPUs that are not attached, and prints the memory of each and
what they exchange. `schema` describes the data set it expects: ten streams of up to 2,048 events,
two hundred context features, 2^28 rows of tables. The context features are hashed into one table.
"""

from ml_collections import ConfigDict

from configs import base
from kunlun_jax.data.schema import (
    DenseFeature,
    EventId,
    EventStream,
    Schema,
    SparseFeature,
    Vocabulary,
)

# name: events, width, heads, GDPA width, pooled tokens, seeds, layers, window
_STREAMS = {
    "impression": (2048, 256, 4, 256, 32, 64, 4, 100),
    "click": (2048, 256, 4, 256, 32, 64, 4, 100),
    "conversion": (512, 256, 4, 256, 32, 64, 4, 100),
    "view": (1024, 256, 4, 128, 16, 32, 4, 100),
    "search": (512, 128, 2, 128, 16, 32, 2, 50),
    "like": (512, 128, 2, 128, 16, 32, 2, 50),
    "comment": (256, 128, 2, 128, 8, 16, 2, 50),
    "share": (256, 128, 2, 128, 8, 16, 2, 50),
    "follow": (256, 128, 2, 128, 8, 16, 2, 50),
    "message": (256, 128, 2, 128, 8, 16, 2, 50),
}
_NUM_SPARSE, _NUM_DENSE = 200, 400
# Rows are powers of two, so that they divide among the GPUs; row 0 is the OOV row.
_ROWS = {"item": 2**27, "author": 2**26, "category": 2**14, "context": 2**26}


def schema() -> Schema:
    """Return the schema of the data set."""
    events = (
        EventId("item", "item"),
        EventId("author", "author"),
        EventId("category", "category"),
    )
    candidate = ("item", "author", "category")
    features = [SparseFeature(name, name) for name in candidate]
    features += [SparseFeature(f"context_{i}", "context") for i in range(_NUM_SPARSE)]
    return Schema(
        name="production",
        vocabularies=tuple(Vocabulary(name, rows - 1) for name, rows in _ROWS.items()),
        dense=tuple(DenseFeature(f"dense_{i}") for i in range(_NUM_DENSE)),
        sparse=tuple(features),
        candidate=candidate,
        streams=tuple(
            EventStream(name, events, (DenseFeature("dwell", log1p=True),), max_len=fields[0])
            for name, fields in _STREAMS.items()
        ),
        labels=("click", "conversion"),
    )


def get_config() -> ConfigDict:
    """Return base at production size."""
    config = base.get_config()
    config.data.source = "built"
    config.data.options = ConfigDict()
    config.data.directory = "datasets/production"
    config.data.batch_size = 512
    config.data.num_epochs = 1.0
    config.data.num_threads = 16

    config.model.dim = 256
    config.model.num_layers = 4
    config.model.n_sum = 48
    config.model.head_dims = (1024, 512)
    config.model.dtype = "bfloat16"
    config.model.rote.learnable = True
    config.model.wukong.num_experts = 8
    config.model.wukong.fm_rank = 32
    config.model.wukong.mlp_dim = 1024
    config.model.streams = ConfigDict()
    names = ("max_len", "model_dim", "num_heads", "n_kv", "n_tokens", "n_seeds", "num_layers")
    for name, fields in _STREAMS.items():
        config.model.streams[name] = base.stream(
            **dict(zip((*names, "window"), fields, strict=True)), mlp_dim=512
        )

    config.mesh.data = 1
    config.mesh.fsdp = -1
    return config
