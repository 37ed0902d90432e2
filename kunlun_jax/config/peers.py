"""Settings of the models that Kunlun is compared with, one group a model.

Width, layers, embeddings, event encoders and head are `ModelConfig`'s, the same for all of them;
the Wukong model has no group of its own, its layer is the one in `WukongConfig`.
"""

import dataclasses
from typing import Any

from kunlun_jax.config.fields import PositiveInt, setting
from kunlun_jax.config.parsing import require


@dataclasses.dataclass(frozen=True)
class DINConfig:
    """Deep interest network."""

    attention_dims: tuple[PositiveInt, ...] = setting(
        (32, 16), "Hidden widths of the MLP that weighs an event."
    )


@dataclasses.dataclass(frozen=True)
class InterFormerConfig:
    """InterFormer; its CLS tokens are the model's n_sum summary tokens."""

    num_heads: PositiveInt = setting(1, "Attention heads; 2 * num_heads divides the model's dim.")
    num_pma: PositiveInt = setting(2, "Tokens that learned queries pool from the sequence.")
    num_recent: PositiveInt = setting(
        2, "Most recent events that enter the sequence's summary as they are."
    )


@dataclasses.dataclass(frozen=True)
class HSTUConfig:
    """Hierarchical sequential transduction unit."""

    num_heads: PositiveInt = setting(1, "Attention heads; 2 * num_heads divides the model's dim.")
    num_time_buckets: PositiveInt = setting(
        16, "Buckets of the relative time bias, equal in the logarithm of seconds."
    )


@dataclasses.dataclass(frozen=True)
class TokenFormerConfig:
    """TokenFormer, bottom-full-top-sliding; its depth is given here, not by num_layers."""

    num_heads: PositiveInt = setting(1, "Attention heads; 2 * num_heads divides the model's dim.")
    num_full_layers: PositiveInt = setting(
        2, "Layers of full causal attention, over static fields and behaviours."
    )
    windows: tuple[PositiveInt, ...] = setting(
        (32, 16), "One sliding layer each: the events before a token that it sees."
    )
    ffn_dim: PositiveInt = setting(64, "Hidden width of SwiGLU.")


@dataclasses.dataclass(frozen=True)
class UniDotConfig:
    """UniDot; its interaction is a layer of `wukong` with one expert."""

    num_heads: PositiveInt = setting(1, "Attention heads; 2 * num_heads divides the model's dim.")
    window: PositiveInt = setting(
        16, "Events to each side that an event sees when its stream is encoded."
    )
    num_items: PositiveInt = setting(4, "Tokens of the candidate that search the streams.")
    num_pooled: PositiveInt = setting(4, "Tokens that a stream is pooled into.")
    gate_dim: PositiveInt = setting(16, "Hidden width of the MLP that weighs events in pooling.")
    ffn_dim: PositiveInt = setting(64, "Hidden width of the other MLPs.")


def validate_peer(peer: Any, where: str, dim: int) -> None:
    """Check that the heads of a peer divide its width.

    Args:
        peer: One of the classes above.
        where: Its path in the configuration.
        dim: The model's width.

    Raises:
        ConfigError: If they do not.
    """
    if hasattr(peer, "num_heads"):
        require(
            dim % (2 * peer.num_heads) == 0,
            f"{where}.num_heads",
            f"a divisor of half of config.model.dim = {dim}",
            peer.num_heads,
        )
