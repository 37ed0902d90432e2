"""Settings of the layers: what one stream gets, and how every kind of module is built."""

import dataclasses
from typing import Literal, get_args

from kunlun_jax.config.fields import (
    Fraction,
    PositiveFloat,
    PositiveInt,
    about,
    setting,
)

Activation = Literal[
    "identity", "gelu", "gelu_tanh", "relu", "relu_squared", "leaky_relu", "silu", "hard_swish"
]


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How much of the model one stream gets (docs/model.md#event-level-personalization)."""

    name: str = dataclasses.field(
        metadata=about("Name of the stream in the data set's schema; the key of the mapping.")
    )
    model_dim: PositiveInt = setting(32, "Width D_e; a multiple of 2 * num_heads.")
    num_heads: PositiveInt = setting(2, "Heads N of GDPA, window attention and seed pooling.")
    n_kv: PositiveInt = setting(
        32,
        "GDPA key/value length K, the hidden width of the personalised feed-forward layer.",
    )
    n_tokens: PositiveInt = setting(8, "Pooled tokens Q.")
    n_seeds: PositiveInt = setting(16, "Seeds P, at least n_tokens.")
    num_layers: PositiveInt = setting(
        3, "Layers in which the stream is updated; at most the model's."
    )
    window: PositiveInt = setting(16, "Events that attention sees to each side.")
    max_len: PositiveInt = setting(64, "Most recent events taken from the history.")
    mlp_dim: PositiveInt = setting(32, "Hidden width of the event encoder.")
    schedule: tuple[str, ...] = setting(
        (),
        'Which modules run in which layer, one string a layer of the words "pffn", "attention", '
        '"pooling"; empty: decided by comp_skip.',
    )

    @property
    def head_dim(self) -> int:
        """Width H of a head."""
        return self.model_dim // self.num_heads


@dataclasses.dataclass(frozen=True)
class GDPAConfig:
    """Generalised dot-product attention and the block around it (docs/model.md#gdpa)."""

    pffn: Literal["gdpa", "mlp", "linear"] = setting(
        "gdpa",
        'The personalised layer: "gdpa", by heads; "mlp", a per-example two-layer map over the '
        'full width; "linear", InterFormer\'s per-example matrix.',
    )
    temperature: Literal["inside", "outside", "none"] = setting(
        "inside",
        'Where the stream length divides: "inside" the activation; "outside", its output; "none".',
    )
    gain_init: float = setting(
        0.0,
        'Initial per-head gain under "inside"; 0: max_len / sqrt(head_dim), which gives the scores '
        "unit variance; 1: the literal formula.",
    )
    activation: tuple[Activation, ...] = setting(
        ("gelu_tanh",),
        "One name for all heads, or one for every head of a stream: "
        + ", ".join(f'"{name}"' for name in get_args(Activation))
        + ".",
    )


@dataclasses.dataclass(frozen=True)
class ROTEConfig:
    """Rotary temporal embedding (docs/model.md#rote)."""

    gaps: Literal["adjacent", "to_request", "positions_only"] = setting(
        "adjacent",
        'What the time angle measures: "adjacent", the gap to the previous event; "to_request", '
        'the age at the request; "positions_only", nothing.',
    )
    time_scale: PositiveFloat = setting(
        86_400.0,
        "Seconds t_scale that one unit inside the logarithm stands for; also of the ages that "
        "every model reads as an attribute of its events. Much shorter times look alike.",
    )
    base: PositiveFloat = setting(10_000.0, "Base of the position frequencies.")
    time_base: PositiveFloat = setting(10_000.0, "Base of the time frequencies.")
    learnable: bool = setting(False, "Whether the time frequencies are parameters.")


@dataclasses.dataclass(frozen=True)
class PoolingConfig:
    """Hierarchical seed pooling (docs/model.md#seed-pooling)."""

    pooling: Literal["hsp", "pma"] = setting(
        "hsp",
        '"hsp": more seeds than tokens, compressed; "pma": attention with n_tokens seeds and no '
        "SumKron.",
    )
    pool_from: Literal["pffn", "events"] = setting(
        "pffn",
        '"pffn": pool what the layer\'s PFFN puts out, events that know the candidate, as in '
        'Figure 1; "events": what goes into it.',
    )
    rank: PositiveInt = setting(8, "Terms R of SumKron.")
    use_sum_kron: bool = setting(
        True,
        "Whether SumKron follows the seeds; otherwise two linear maps, of the width and of the "
        "token axis (SumKron has R sums of such pairs).",
    )
    final_pooling: bool = setting(
        True, "Whether the head gets one more, fresh pooling of every stream."
    )


@dataclasses.dataclass(frozen=True)
class WukongConfig:
    """The mixture of Wukong experts (docs/model.md#global-interaction)."""

    num_experts: PositiveInt = setting(
        2,
        "Experts E of Kunlun's interaction; 1: one Wukong layer. They divide the tokens that a "
        'layer puts out, n_sum + n_tokens of all streams, unless the partition is "full".',
    )
    fm_rank: PositiveInt = setting(8, "Columns k of the factorisation machine's projection Y.")
    mlp_dim: PositiveInt = setting(128, "Hidden width of the two MLPs of an expert.")
    fm_fraction: Fraction = setting(
        0.5, "Share of an expert's output tokens that come from the factorisation machine."
    )
    partition: Literal["round_robin", "contiguous", "full"] = setting(
        "round_robin",
        'Which tokens an expert sees: "round_robin", dealt in turn; "contiguous", in blocks; '
        '"full", all of them, and the outputs are summed.',
    )
    num_tokens: PositiveInt = setting(
        32,
        'Tokens n_F + n_L that a layer of the model "wukong" puts out; those of the other models '
        "follow from their inputs.",
    )
