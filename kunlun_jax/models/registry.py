"""The models by name."""

from kunlun_jax.config import ConfigError, ExperimentConfig, ModelConfig
from kunlun_jax.config.parsing import require
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.context import num_context_tokens
from kunlun_jax.layers.features import features_in_use
from kunlun_jax.models.din import DIN
from kunlun_jax.models.hstu import HSTU
from kunlun_jax.models.interformer import InterFormer
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.tokenformer import TokenFormer
from kunlun_jax.models.unidot import UniDot
from kunlun_jax.models.wukong import Wukong

MODELS: dict[str, type[Recommender]] = {
    "kunlun": Kunlun,
    "wukong": Wukong,
    "interformer": InterFormer,
    "din": DIN,
    "hstu": HSTU,
    "tokenformer": TokenFormer,
    "unidot": UniDot,
}


def create_model(config: ExperimentConfig, schema: Schema) -> Recommender:
    """Return the model that a configuration names, for a data set.

    Args:
        config: The experiment.
        schema: The data set's schema.

    Raises:
        ConfigError: If the configuration names a stream or a vocabulary that the data set does not
            have, asks for longer histories than it offers, for more experts than tokens, or for
            cross features where the data set declares none.
    """
    for name, _ in config.model.table_dims:
        known = sorted(schema.vocabulary_by_name)
        require(
            name in known, "config.model.table_dims", f"vocabularies of the data set, {known}", name
        )
    _require_declared(config.model, schema)
    for stream in config.model.streams:
        events = schema.stream_by_name.get(stream.name)
        if events is None:
            raise ConfigError(
                f"config.model.streams: expected streams of data set {schema.name!r}, "
                f"{sorted(schema.stream_by_name)}, got {stream.name!r}"
            )
        if stream.max_len > events.max_len:
            raise ConfigError(
                f"config.model.streams.{stream.name}.max_len: expected at most {events.max_len}, "
                f"got {stream.max_len}"
            )
    if config.model.name == "kunlun" and config.model.wukong.partition != "full":
        _require_tokens_for_experts(config.model, schema)
    return MODELS[config.model.name](config.model, schema, config.optimizer.table_init_std)


def _require_declared(model: ModelConfig, schema: Schema) -> None:
    """Check that there are the features that a model would otherwise go without, unnoticed."""
    for setting, key in (("count_features", "cross"), ("popularity_features", "popularity")):
        require(
            getattr(schema, key) or not (model.use_dense and getattr(model, setting)),
            f"config.model.{setting}",
            f"False, as the schema of data set {schema.name!r} declares no `{key}` (data sets of "
            "earlier versions have none: build it again)",
            True,
        )


def _require_tokens_for_experts(model: ModelConfig, schema: Schema) -> None:
    """Check that every expert of the first layer gets a token: how many there are, the data say."""
    full = model.interaction_input == "full"
    num_first = num_context_tokens(features_in_use(schema, model)) if full else model.n_sum
    num_tokens, experts = num_first + model.num_pooled_tokens, model.wukong.num_experts
    require(
        experts <= num_tokens,
        "config.model.wukong.num_experts",
        f"at most the {num_tokens} tokens of the first interaction",
        experts,
    )
