"""The layers of Kunlun, one concept a file."""

from kunlun_jax.layers.comp_skip import LayerSchedule, stream_schedule
from kunlun_jax.layers.context import ContextTokens
from kunlun_jax.layers.embedding import EmbeddingTables
from kunlun_jax.layers.event_encoder import EventEncoder
from kunlun_jax.layers.head import Head
from kunlun_jax.layers.pffn import PFFN
from kunlun_jax.layers.seed_pooling import SeedPooling, sum_kron
from kunlun_jax.layers.weight_generation import WeightGeneration
from kunlun_jax.layers.window_attention import WindowAttention
from kunlun_jax.layers.wukong import WukongExperts

__all__ = [
    "PFFN",
    "ContextTokens",
    "EmbeddingTables",
    "EventEncoder",
    "Head",
    "LayerSchedule",
    "SeedPooling",
    "WeightGeneration",
    "WindowAttention",
    "WukongExperts",
    "stream_schedule",
    "sum_kron",
]
