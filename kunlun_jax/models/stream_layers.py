"""The layers of one event stream, as a model's configuration asks for them."""

from kunlun_jax.config import ModelConfig, StreamConfig
from kunlun_jax.layers.pffn import PFFN
from kunlun_jax.layers.seed_pooling import SeedPooling
from kunlun_jax.layers.window_attention import WindowAttention


def pffn(stream: StreamConfig, model: ModelConfig, *, name: str | None = None) -> PFFN:
    """Return the personalised feed-forward block of a stream.

    Args:
        stream: The stream's share of the model.
        model: The model.
        name: Name of the submodule.
    """
    return PFFN(
        num_heads=stream.num_heads,
        num_keys=stream.n_kv,
        max_len=stream.max_len,
        config=model.gdpa,
        aligned=model.init == "aligned",
        implementation=model.implementation,
        name=name,
    )


def seed_pooling(
    stream: StreamConfig, model: ModelConfig, *, name: str | None = None
) -> SeedPooling:
    """Return a pooling of a stream; the arguments are those of `pffn`."""
    return SeedPooling(
        dim=model.dim,
        num_heads=stream.num_heads,
        num_seeds=stream.n_seeds,
        num_tokens=stream.n_tokens,
        config=model.pooling,
        implementation=model.implementation,
        name=name,
    )


def window_attention(
    stream: StreamConfig, model: ModelConfig, *, name: str | None = None
) -> WindowAttention:
    """Return the self-attention of a stream; the arguments are those of `pffn`."""
    return WindowAttention(
        num_heads=stream.num_heads,
        window=stream.window,
        rote=model.rote,
        implementation=model.implementation,
        name=name,
    )
