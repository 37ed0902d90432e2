"""The models by name."""

from kunlun_jax.config import ConfigError, ExperimentConfig, ModelConfig
from kunlun_jax.config_parsing import require
from kunlun_jax.data.schema import Schema
from kunlun_jax.layers.context import num_context_tokens
from kunlun_jax.layers.features import features_in_use
from kunlun_jax.models.din import DIN
from kunlun_jax.models.hstu import HSTU
from kunlun_jax.models.interformer import InterFormer
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.tokenformer import TokenFormer
from kunlun_jax.models.wukong import Wukong

MODELS: dict[str, type[Recommender]] = {
    "kunlun": Kunlun,
    "wukong": Wukong,
    "interformer": InterFormer,
    "din": DIN,
    "hstu": HSTU,
    "tokenformer": TokenFormer,
}


def create_model(config: ExperimentConfig, schema: Schema) -> Recommender:
    """Return the model that a configuration names, for a data set.

    Args:
        config: The experiment.
        schema: The data set's schema.

    Raises:
        ConfigError: If the configuration names a stream or a vocabulary that the data set does not
            have, asks for longer histories than it offers, or for experts that its tokens do not
            divide among.
    """
    for name, _ in config.model.table_dims:
        known = sorted(schema.vocabulary_by_name)
        require(
            name in known, "config.model.table_dims", f"vocabularies of the data set, {known}", name
        )
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
    if config.model.name == "kunlun" and config.model.interaction_input == "full":
        _require_whole_parts(config.model, schema)
    return MODELS[config.model.name](config.model, schema, config.optimizer.table_init_std)


def _require_whole_parts(model: ModelConfig, schema: Schema) -> None:
    """Check that experts share what the first layer reads: how much that is, the data decide."""
    num_context = num_context_tokens(features_in_use(schema, model))
    num_tokens, experts = num_context + model.num_pooled_tokens, model.wukong.num_experts
    require(
        model.wukong.partition == "full" or num_tokens % experts == 0,
        "config.model.wukong.num_experts",
        f"a divisor of the {num_tokens} tokens ({num_context} of the context, and n_tokens of all "
        "streams)",
        experts,
    )
