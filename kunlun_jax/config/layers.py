"""Settings of the layers: what one stream gets, and how every kind of module is built."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How much of the model one stream gets (docs/model.md#event-level-personalization).

    Attributes:
        name: Name of the stream in the data set's schema.
        model_dim: Width D_e; a multiple of 2 * num_heads.
        num_heads: Heads N_e of GDPA, window attention and seed pooling.
        n_kv: GDPA key/value length K, the hidden width of the personalised feed-forward layer.
        n_tokens: Pooled tokens Q.
        n_seeds: Seeds P, at least n_tokens.
        num_layers: Layers in which the stream is updated; at most the model's.
        window: Events that attention sees to each side.
        max_len: Most recent events taken from the history.
        mlp_dim: Hidden width of the event encoder.
        schedule: Which modules run in which layer, one string a layer of the words "pffn",
            "attention", "pooling"; empty: decided by `comp_skip`.
    """

    name: str
    model_dim: int = 32
    num_heads: int = 2
    n_kv: int = 32
    n_tokens: int = 8
    n_seeds: int = 16
    num_layers: int = 3
    window: int = 16
    max_len: int = 64
    mlp_dim: int = 32
    schedule: tuple[str, ...] = ()

    @property
    def head_dim(self) -> int:
        """Width H of a head."""
        return self.model_dim // self.num_heads


@dataclasses.dataclass(frozen=True)
class GDPAConfig:
    """Generalised dot-product attention and the feed-forward block around it (docs/model.md#gdpa).

    Attributes:
        pffn: "gdpa"; "mlp", a per-example two-layer map over the full width; or "linear",
            InterFormer's per-example matrix.
        temperature: Where the stream length divides: "inside" the activation, "outside", "none".
        gain_init: Initial per-head gain under "inside"; 0 means max_len / sqrt(head_dim), which
            gives the scores unit variance, and 1 is the literal formula.
        activation: One name, or one per head separated by commas.
    """

    pffn: str = "gdpa"
    temperature: str = "inside"
    gain_init: float = 0.0
    activation: str = "gelu_tanh"


@dataclasses.dataclass(frozen=True)
class ROTEConfig:
    """Rotary temporal embedding (docs/model.md#rote).

    Attributes:
        gaps: What the time angle measures: "adjacent", the gap to the previous event;
            "to_request", the age at the request; "positions_only", nothing.
        time_scale: Seconds t_scale that one unit inside the logarithm stands for; also of the ages
            that every model reads as an attribute of its events. Much shorter times look alike.
        base: Base of the position frequencies.
        time_base: Base of the time frequencies.
        learnable: Whether the time frequencies are parameters.
    """

    gaps: str = "adjacent"
    time_scale: float = 86400.0
    base: float = 10000.0
    time_base: float = 10000.0
    learnable: bool = False


@dataclasses.dataclass(frozen=True)
class PoolingConfig:
    """Hierarchical seed pooling (docs/model.md#seed-pooling).

    Attributes:
        pooling: "hsp", or "pma": attention with n_tokens seeds and no SumKron.
        pool_from: "pffn": what the layer's PFFN puts out, events that know the candidate, as in
            Figure 1; "events": what goes into it.
        rank: Terms R of SumKron.
        use_sum_kron: Whether SumKron follows the seeds; otherwise two linear maps, of the width
            and of the token axis (SumKron has R sums of such pairs).
        final_pooling: Whether the head gets one more, fresh pooling of every stream.
    """

    pooling: str = "hsp"
    pool_from: str = "pffn"
    rank: int = 8
    use_sum_kron: bool = True
    final_pooling: bool = True


@dataclasses.dataclass(frozen=True)
class WukongConfig:
    """The mixture of Wukong experts (docs/model.md#global-interaction).

    Attributes:
        num_experts: Experts E; with a partition, they divide the tokens that a layer puts out,
            n_sum + n_tokens of all streams.
        fm_rank: Columns k of the factorisation machine's projection Y.
        mlp_dim: Hidden width of the two MLPs of an expert.
        fm_fraction: Share of an expert's output tokens that come from the factorisation machine.
        partition: Which tokens an expert sees: "round_robin", "contiguous", or "full", all.
        merge: "concat", the outputs in token order; "sum", of experts that saw all tokens.
        num_tokens: Tokens n_F + n_L that a layer of the model "wukong" puts out; those of the other
            models follow from their inputs.
    """

    num_experts: int = 2
    fm_rank: int = 8
    mlp_dim: int = 64
    fm_fraction: float = 0.5
    partition: str = "round_robin"
    merge: str = "concat"
    num_tokens: int = 32
