"""Settings of the model as a whole, and the check that they fit together."""

import dataclasses
from typing import Literal, get_args

from kunlun_jax.config.fields import PositiveInt, group, setting
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
    UniDotConfig,
    validate_peer,
)

ModelName = Literal["kunlun", "wukong", "interformer", "din", "hstu", "tokenformer", "unidot"]
DType = Literal["float32", "bfloat16"]
ScheduleWord = Literal["pffn", "attention", "pooling"]
_PEERS_WITH_SETTINGS = ("din", "interformer", "hstu", "tokenformer", "unidot")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The whole model.

    `allocation` and `attention` are carried out here, on the streams: everything below reads them
    as they then are.
    """

    name: ModelName = setting(
        "kunlun",
        '"kunlun", or a peer: "wukong", "interformer", "din", "hstu", "tokenformer", "unidot".',
    )
    dim: PositiveInt = setting(
        64, "Width D of context, summary and pooled tokens, and of embeddings."
    )
    table_dims: tuple[tuple[str, PositiveInt], ...] = setting(
        (),
        "By vocabulary: width of its table, where it is not dim; a learned linear map brings its "
        "rows to dim.",
    )
    num_layers: PositiveInt = setting(2, "Layers L.")
    n_sum: PositiveInt = setting(8, "Summary tokens G.")
    comp_skip: bool = setting(
        True,
        "Whether even layers skip attention and odd layers skip PFFN and pooling; otherwise "
        "everything runs in every layer.",
    )
    allocation: Literal["event_level", "uniform"] = setting(
        "event_level",
        '"event_level": every stream has its own share of the model; "uniform": all have the '
        "widest one's (but their own length).",
    )
    attention: Literal["window", "full"] = setting(
        "window", '"window": attention sees every stream\'s own window; "full": the whole stream.'
    )
    interaction_input: Literal["full", "summary"] = setting(
        "full",
        'What the interaction sees beside the pooled tokens H: "full", the set features '
        'themselves, [X || H], as in Figure 1; "summary", [X_sum || H].',
    )
    init: Literal["aligned", "random"] = setting(
        "aligned",
        '"aligned": candidate and history start in one space; "random": independent projections.',
    )
    match_attributes: bool = setting(
        True,
        "Whether events carry, for every id that the context has too, whether it is the "
        "candidate's: an attribute of 0 or 1 beside the others.",
    )
    count_features: bool = setting(
        True,
        "Whether the model reads the count features that the data set's schema declares (`cross`): "
        "how often, and how long ago, the user's earlier events met the candidate. If so, there "
        "have to be some.",
    )
    popularity_features: bool = setting(
        True,
        "Likewise of `popularity`: how many earlier events of all users met the candidate.",
    )
    use_dense: bool = setting(
        True,
        "Whether the model reads dense features, of the context and of events; the age of an event "
        "is not one of them.",
    )
    head_dims: tuple[PositiveInt, ...] = setting((256, 128), "Hidden widths of the head's MLP.")
    head_context: bool = setting(
        True,
        "Whether the head reads the context tokens too, and the trunk's through a gain "
        "(layers/head.py); otherwise the trunk's alone, as they are.",
    )
    dtype: DType = setting(
        "float32", 'Compute type, "float32" or "bfloat16"; parameters are always float32.'
    )
    kernels: Literal["auto", "triton", "triton_interpret", "xla"] = setting(
        "auto",
        'Implementation of the three attention operations: "auto", the Triton kernels on a GPU '
        'that they support and XLA elsewhere; "triton", "triton_interpret" (slow, for tests) or '
        '"xla", which never fall back.',
    )
    gdpa: GDPAConfig = group(GDPAConfig)
    rote: ROTEConfig = group(ROTEConfig)
    pooling: PoolingConfig = group(PoolingConfig)
    wukong: WukongConfig = group(WukongConfig)
    din: DINConfig = group(DINConfig)
    interformer: InterFormerConfig = group(InterFormerConfig)
    hstu: HSTUConfig = group(HSTUConfig)
    tokenformer: TokenFormerConfig = group(TokenFormerConfig)
    unidot: UniDotConfig = group(UniDotConfig)
    streams: tuple[StreamConfig, ...] = setting(
        (), "Event streams by their names in the data set, at least one."
    )

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
    require(model.streams, "config.model.streams", "at least one stream", "none")
    if model.name in _PEERS_WITH_SETTINGS:
        validate_peer(getattr(model, model.name), f"config.model.{model.name}", model.dim)
    for stream in model.streams:
        _validate_stream(stream, model)
    tokens, experts = model.num_pooled_tokens + model.n_sum, model.wukong.num_experts
    if model.wukong.partition != "full":
        require(
            tokens % experts == 0,
            "config.model.wukong.num_experts",
            f"a divisor of the {tokens} tokens (n_sum + n_tokens of all streams)",
            experts,
        )


def _validate_stream(stream: StreamConfig, model: ModelConfig) -> None:
    where = f"config.model.streams.{stream.name}"
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
    require(
        len(model.gdpa.activation) in (1, stream.num_heads),
        "config.model.gdpa.activation",
        f"one name, or {stream.num_heads} for the heads of stream {stream.name!r}",
        model.gdpa.activation,
    )
    if stream.schedule:
        allowed = get_args(ScheduleWord)
        words = {word for layer in stream.schedule for word in layer.split()}
        require(
            len(stream.schedule) == stream.num_layers and words <= set(allowed),
            f"{where}.schedule",
            f"{stream.num_layers} strings of the words {allowed}",
            stream.schedule,
        )
        require(
            "pooling" in stream.schedule[0].split(),
            f"{where}.schedule",
            "'pooling' in layer 0 (there is nothing cached before it)",
            stream.schedule[0],
        )
