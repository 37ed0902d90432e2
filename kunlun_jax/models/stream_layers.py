"""The layers of one event stream, as a model's configuration asks for them."""

from typing import NamedTuple

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.layers.pffn import PFFN
from kunlun_jax.layers.seed_pooling import SeedPooling
from kunlun_jax.layers.window_attention import WindowAttention


class StreamLayers(NamedTuple):
    """Makes the layers of a stream; each takes the name of the submodule.

    Attributes:
        stream: The stream's share of the model.
        model: The model.
    """

    stream: StreamConfig
    model: ModelConfig

    def pffn(self, name: str | None = None) -> PFFN:
        """Return the personalised feed-forward block."""
        stream, model = self
        return PFFN(
            num_heads=stream.num_heads,
            num_keys=stream.n_kv,
            max_len=stream.max_len,
            config=model.gdpa,
            aligned=model.init == "aligned",
            implementation=model.implementation,
            name=name,
        )

    def pooling(self, name: str | None = None) -> SeedPooling:
        """Return the pooling of the stream's events."""
        stream, model = self
        return SeedPooling(
            dim=model.dim,
            num_heads=stream.num_heads,
            num_seeds=stream.n_seeds,
            num_tokens=stream.n_tokens,
            config=model.pooling,
            implementation=model.implementation,
            name=name,
        )

    def attention(self, name: str | None = None) -> WindowAttention:
        """Return the self-attention of the stream's events."""
        stream, model = self
        return WindowAttention(
            num_heads=stream.num_heads,
            window=stream.window,
            rote=model.rote,
            implementation=model.implementation,
            name=name,
        )
