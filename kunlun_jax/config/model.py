"""Settings of the model as a whole, and the check that they fit together."""

import dataclasses
from typing import Any

from kunlun_jax.config.layers import (
    GDPAConfig,
    PoolingConfig,
    ROTEConfig,
    StreamConfig,
    WukongConfig,
)
from kunlun_jax.config.parsing import require
from kunlun_jax.config.peers import (
    DINConfig,
    HSTUConfig,
    InterFormerConfig,
    TokenFormerConfig,
    validate_peer,
)

ACTIVATIONS = (
    "identity",
    "gelu",
    "gelu_tanh",
    "relu",
    "relu_squared",
    "leaky_relu",
    "silu",
    "hard_swish",
)
CHOICES: dict[str, tuple[str, ...]] = {
    "pffn": ("gdpa", "mlp", "linear"),
    "temperature": ("inside", "outside", "none"),
    "pooling": ("hsp", "pma"),
    "partition": ("round_robin", "contiguous", "full"),
    "merge": ("concat", "sum"),
    "pool_from": ("pffn", "events"),
    "interaction_input": ("full", "summary"),
    "gaps": ("adjacent", "to_request", "positions_only"),
    "allocation": ("event_level", "uniform"),
    "attention": ("window", "full"),
    "init": ("aligned", "random"),
    "dtype": ("float32", "bfloat16"),
    "kernels": ("auto", "triton", "triton_interpret", "xla"),
    "name": ("kunlun", "wukong", "interformer", "din", "hstu", "tokenformer"),
}
SCHEDULE_WORDS = ("pffn", "attention", "pooling")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The whole model.

    `allocation` and `attention` are carried out here, on the streams: everything below reads them
    as they then are.

    Attributes:
        name: Name in the model registry.
        dim: Width D of context, summary and pooled tokens, and of embeddings.
        table_dims: Width by vocabulary, as (name, width) pairs, of tables with another one than
            `dim`; a learned linear map brings their rows to `dim`.
        num_layers: Layers L.
        n_sum: Summary tokens G.
        streams: Event streams, in order.
        gdpa: Personalised feed-forward block.
        rote: Rotary temporal embedding.
        pooling: Hierarchical seed pooling.
        wukong: Global interaction.
        din: Settings of the peer of this name, and so on.
        interformer: InterFormer.
        hstu: HSTU.
        tokenformer: TokenFormer.
        comp_skip: Whether even layers skip attention and odd layers skip PFFN and pooling.
        allocation: "event_level": every stream has its own share of the model; "uniform": all have
            the widest one's (but their own length).
        attention: "window", every stream's own; "full": the whole stream.
        interaction_input: "full": the interaction sees the set features themselves, [X || H], as in
            Figure 1; "summary": [X_sum || H].
        init: "aligned" (candidate and history meet from the first step) or "random".
        use_dense: Whether the model reads dense features, of the context and of events; the age of
            an event is not one of them.
        head_dims: Hidden widths of the head's MLP.
        head_context: Whether the head reads the context tokens too, and the trunk's through a gain
            (`layers/head.py`); False: the trunk's alone, as they are.
        dtype: Compute type; parameters are always float32.
        kernels: Implementation of the three attention operations: "auto", the Triton kernels on a
            GPU that they support and XLA elsewhere; "triton", "triton_interpret" (slow, for tests)
            or "xla", which never fall back.
    """

    name: str = "kunlun"
    dim: int = 32
    table_dims: tuple[tuple[str, Any], ...] = ()
    num_layers: int = 3
    n_sum: int = 8
    streams: tuple[StreamConfig, ...] = ()
    gdpa: GDPAConfig = dataclasses.field(default_factory=GDPAConfig)
    rote: ROTEConfig = dataclasses.field(default_factory=ROTEConfig)
    pooling: PoolingConfig = dataclasses.field(default_factory=PoolingConfig)
    wukong: WukongConfig = dataclasses.field(default_factory=WukongConfig)
    din: DINConfig = dataclasses.field(default_factory=DINConfig)
    interformer: InterFormerConfig = dataclasses.field(default_factory=InterFormerConfig)
    hstu: HSTUConfig = dataclasses.field(default_factory=HSTUConfig)
    tokenformer: TokenFormerConfig = dataclasses.field(default_factory=TokenFormerConfig)
    comp_skip: bool = True
    allocation: str = "event_level"
    attention: str = "window"
    interaction_input: str = "full"
    init: str = "aligned"
    use_dense: bool = True
    head_dims: tuple[int, ...] = (128, 64)
    head_context: bool = False
    dtype: str = "float32"
    kernels: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", tuple(self._share(s) for s in self.streams))

    def _share(self, stream: StreamConfig) -> StreamConfig:
        if self.allocation == "uniform":
            widest = max(self.streams, key=lambda s: s.model_dim)
            stream = dataclasses.replace(widest, name=stream.name, max_len=stream.max_len)
        if self.attention == "full":
            stream = dataclasses.replace(stream, window=stream.max_len)
        return stream

    @property
    def implementation(self) -> str | None:
        """What the attention operations take as their `implementation`."""
        return None if self.kernels == "auto" else self.kernels

    @property
    def encoded_streams(self) -> tuple[StreamConfig, ...]:
        """The streams at the width their events are encoded with: a peer has one for all."""
        if self.name == "kunlun":
            return self.streams
        return tuple(dataclasses.replace(s, model_dim=self.dim) for s in self.streams)

    @property
    def num_pooled_tokens(self) -> int:
        """Pooled tokens of all streams together."""
        return sum(stream.n_tokens for stream in self.streams)


def validate_model(model: ModelConfig) -> None:
    """Check what the types alone do not say.

    Raises:
        ConfigError: If widths, counts or choices do not fit together.
    """
    for part in (model, model.gdpa, model.rote, model.pooling, model.wukong):
        _check_choices(part)
    require(model.streams, "config.model.streams", "at least one stream", "none")
    for name, width in model.table_dims:
        is_width = isinstance(width, int) and not isinstance(width, bool) and width > 0
        require(is_width, f"config.model.table_dims.{name}", "an integer > 0", width)
    if model.name in ("din", "interformer", "hstu", "tokenformer"):
        validate_peer(getattr(model, model.name), f"config.model.{model.name}", model.dim)
    for stream in model.streams:
        _validate_stream(stream, model)
    tokens, experts = model.num_pooled_tokens + model.n_sum, model.wukong.num_experts
    wukong = model.wukong
    require(
        (wukong.merge == "sum") == (wukong.partition == "full"),
        "config.model.wukong.merge",
        "'sum' with partition 'full', 'concat' with the others",
        f"{wukong.merge!r} with {wukong.partition!r}",
    )
    require(
        0.0 <= wukong.fm_fraction <= 1.0,
        "config.model.wukong.fm_fraction",
        "a fraction in [0, 1]",
        wukong.fm_fraction,
    )
    if wukong.partition != "full":
        require(
            tokens % experts == 0,
            "config.model.wukong.num_experts",
            f"a divisor of the {tokens} tokens (n_sum + n_tokens of all streams)",
            experts,
        )


def _validate_stream(stream: StreamConfig, model: ModelConfig) -> None:
    where = f"config.model.streams.{stream.name}"
    for field in dataclasses.fields(stream):
        value = getattr(stream, field.name)
        if isinstance(value, int):
            require(value > 0, f"{where}.{field.name}", "> 0", value)
    require(
        stream.model_dim % (2 * stream.num_heads) == 0,
        f"{where}.model_dim",
        f"a multiple of 2 * num_heads = {2 * stream.num_heads}",
        stream.model_dim,
    )
    require(
        stream.n_seeds >= stream.n_tokens,
        f"{where}.n_seeds",
        f"at least n_tokens = {stream.n_tokens}",
        stream.n_seeds,
    )
    require(
        stream.num_layers <= model.num_layers,
        f"{where}.num_layers",
        f"at most config.model.num_layers = {model.num_layers}",
        stream.num_layers,
    )
    activations = model.gdpa.activation.split(",")
    require(
        len(activations) in (1, stream.num_heads) and set(activations) <= set(ACTIVATIONS),
        "config.model.gdpa.activation",
        f"one of {ACTIVATIONS}, or {stream.num_heads} of them for {stream.name!r}",
        model.gdpa.activation,
    )
    if stream.schedule:
        words = {word for layer in stream.schedule for word in layer.split()}
        require(
            len(stream.schedule) == stream.num_layers and words <= set(SCHEDULE_WORDS),
            f"{where}.schedule",
            f"{stream.num_layers} strings of the words {SCHEDULE_WORDS}",
            stream.schedule,
        )
        require(
            "pooling" in stream.schedule[0].split(),
            f"{where}.schedule",
            "'pooling' in layer 0 (there is nothing cached before it)",
            stream.schedule[0],
        )


def _check_choices(part: Any) -> None:
    for field in dataclasses.fields(part):
        allowed = CHOICES.get(field.name)
        value = getattr(part, field.name)
        if allowed is not None and isinstance(value, str):
            require(value in allowed, f"config.model...{field.name}", f"one of {allowed}", value)
