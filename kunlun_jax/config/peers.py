"""Settings of the models that Kunlun is compared with, one group a model.

Width, layers, embeddings, event encoders and head are `ModelConfig`'s, the same for all of them;
the Wukong model has no group of its own, its layer is the one in `WukongConfig`.
"""

import dataclasses
from typing import Any

from kunlun_jax.config.parsing import require


@dataclasses.dataclass(frozen=True)
class DINConfig:
    """Deep interest network.

    Attributes:
        attention_dims: Hidden widths of the MLP that weighs an event.
    """

    attention_dims: tuple[int, ...] = (32, 16)


@dataclasses.dataclass(frozen=True)
class InterFormerConfig:
    """InterFormer; its CLS tokens are the model's `n_sum` summary tokens.

    Attributes:
        num_heads: Attention heads; 2 * num_heads divides the model's `dim`.
        num_pma: Tokens that learned queries pool from the sequence.
        num_recent: Most recent events that enter the sequence's summary as they are.
    """

    num_heads: int = 1
    num_pma: int = 2
    num_recent: int = 2


@dataclasses.dataclass(frozen=True)
class HSTUConfig:
    """Hierarchical sequential transduction unit.

    Attributes:
        num_heads: Attention heads; they divide the model's `dim`.
        num_time_buckets: Buckets of the relative time bias, equal in the logarithm of seconds.
    """

    num_heads: int = 1
    num_time_buckets: int = 16


@dataclasses.dataclass(frozen=True)
class TokenFormerConfig:
    """TokenFormer, bottom-full-top-sliding; its depth is given here, not by `num_layers`.

    Attributes:
        num_heads: Attention heads; 2 * num_heads divides the model's `dim`.
        num_full_layers: Layers of full causal attention, over static fields and behaviours.
        windows: One sliding layer each: the events before a token that it sees.
        ffn_dim: Hidden width of SwiGLU.
    """

    num_heads: int = 1
    num_full_layers: int = 2
    windows: tuple[int, ...] = (32, 16)
    ffn_dim: int = 64


def validate_peer(peer: Any, where: str, dim: int) -> None:
    """Check the settings of one peer.

    Args:
        peer: One of the classes above.
        where: Its path in the configuration.
        dim: The model's width.

    Raises:
        ConfigError: If a count is not positive or the heads do not divide the width.
    """
    for field in dataclasses.fields(peer):
        value = getattr(peer, field.name)
        smallest = min(value, default=1) if isinstance(value, tuple) else value
        require(smallest > 0, f"{where}.{field.name}", "> 0", smallest)
    if hasattr(peer, "num_heads"):
        require(
            dim % (2 * peer.num_heads) == 0,
            f"{where}.num_heads",
            f"a divisor of half of config.model.dim = {dim}",
            peer.num_heads,
        )
