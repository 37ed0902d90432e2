"""Kunlun at production size, for nodes of eight NVIDIA B200.

    python -m kunlun_jax.plan --config=configs/b200.py --machine=b200x8
    python -m kunlun_jax.plan --config=configs/b200.py:64 --machine=b200x512

say what a step needs; with `--compile`, XLA says it, for GPUs that are not attached. What follows
the colon is the number of nodes. `schema` describes the data set that the configuration expects:
ten streams of up to 4,096 events, two hundred context features that are hashed into one table, and
2^30 rows of tables in all, stored in bfloat16.
"""

from ml_collections import ConfigDict

from kunlun_jax.configs import base
from kunlun_jax.data import schema as schemas

# name: events, width, heads, GDPA width, pooled tokens, seeds, layers, window
_STREAMS = {
    "impression": (4096, 256, 4, 256, 32, 64, 4, 100),
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
_ROWS = {"item": 2**28, "author": 2**28, "category": 2**14, "context": 2**29}
_EXAMPLES = 1024  # a step and node


def schema() -> schemas.Schema:
    """Return the schema of the data set."""
    events = (
        schemas.EventId("item", "item"),
        schemas.EventId("author", "author"),
        schemas.EventId("category", "category"),
    )
    candidate = ("item", "author", "category")
    features = [schemas.SparseFeature(name, name) for name in candidate]
    features += [schemas.SparseFeature(f"context_{i}", "context") for i in range(_NUM_SPARSE)]
    return schemas.Schema(
        name="production",
        vocabularies=tuple(schemas.Vocabulary(name, rows - 1) for name, rows in _ROWS.items()),
        dense=tuple(schemas.DenseFeature(f"dense_{i}") for i in range(_NUM_DENSE)),
        sparse=tuple(features),
        candidate=candidate,
        streams=tuple(
            schemas.EventStream(
                name, events, (schemas.DenseFeature("dwell", log1p=True),), max_len=fields[0]
            )
            for name, fields in _STREAMS.items()
        ),
        labels=("click", "conversion"),
    )


def get_config(nodes: str = "1") -> ConfigDict:
    """Return base at production size.

    Args:
        nodes: Nodes of eight GPUs.

    Raises:
        ValueError: If that is no number from 1 on.
    """
    if not nodes.isdecimal() or int(nodes) < 1:
        raise ValueError(f"configs/b200.py: expected a number of nodes, got {nodes!r}")
    config = base.get_config()
    config.data.source = "built"
    config.data.options = ConfigDict()
    config.data.directory = "datasets/production"
    config.data.batch_size = _EXAMPLES * int(nodes)
    config.data.eval_batch_size = _EXAMPLES * int(nodes)
    config.data.num_epochs = 1.0
    config.data.num_threads = 16

    config.model.dim = 256
    config.model.num_layers = 4
    config.model.n_sum = 48
    config.model.head_dims = (1024, 512)
    config.model.head_context = False  # as in the paper
    config.model.dtype = "bfloat16"
    config.model.table_dims = ConfigDict({"author": 128})
    config.model.rote.learnable = True
    config.model.count_features = False  # among the schema's dense features, if anywhere
    config.model.popularity_features = False
    config.model.wukong.num_experts = 8
    config.model.wukong.fm_rank = 32
    config.model.wukong.mlp_dim = 1024
    config.model.streams = ConfigDict()
    names = ("max_len", "model_dim", "num_heads", "n_kv", "n_tokens", "n_seeds", "num_layers")
    for name, fields in _STREAMS.items():
        config.model.streams[name] = base.stream(
            **dict(zip((*names, "window"), fields, strict=True)), mlp_dim=512
        )

    config.optimizer.table_dtype = "bfloat16"
    config.mesh.data = int(nodes)  # between nodes go gradients alone
    config.mesh.fsdp = -1
    return config
