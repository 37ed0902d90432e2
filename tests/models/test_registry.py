import dataclasses
from typing import get_args

import pytest

from kunlun_jax.config import ConfigError, ExperimentConfig, ModelName
from kunlun_jax.models import MODELS, create_model
from tests import factories


def experiment(*streams, name="kunlun"):
    return ExperimentConfig(model=factories.config(name=name, streams=streams))


@pytest.mark.parametrize("name", MODELS)
def test_creates_the_model_that_the_configuration_names(name):
    config = experiment(factories.BUY, factories.VIEW, name=name)
    model = create_model(config, factories.SCHEMA)
    assert type(model).__name__.lower() == name
    assert model.model == config.model
    assert model.table_init_std == config.optimizer.table_init_std


def test_a_name_that_the_configuration_accepts_is_a_model():
    assert tuple(MODELS) == get_args(ModelName)


def test_a_vocabulary_that_the_data_lack_is_refused():
    config = ExperimentConfig(model=factories.config(table_dims=(("colour", 8),)))
    with pytest.raises(ConfigError, match=r"table_dims: expected vocabularies .*got 'colour'"):
        create_model(config, factories.SCHEMA)


def test_a_stream_that_the_data_lack_is_refused():
    stranger = dataclasses.replace(factories.BUY, name="coupon")
    with pytest.raises(ConfigError, match=r"expected streams of data set 'tiny'.*got 'coupon'"):
        create_model(experiment(stranger), factories.SCHEMA)


def test_a_longer_history_than_the_data_offer_is_refused():
    longer = dataclasses.replace(factories.BUY, max_len=13)
    with pytest.raises(ConfigError, match=r"streams.buy.max_len: expected at most 12, got 13"):
        create_model(experiment(longer), factories.SCHEMA)


def test_more_experts_than_tokens_are_refused():
    buy = dataclasses.replace(factories.BUY, n_tokens=3)
    model = factories.config(streams=(buy,), n_sum=6, wukong={"num_experts": 9})  # puts out 9
    with pytest.raises(ConfigError, match=r"num_experts: expected at most the 8 tokens .* got 9"):
        create_model(ExperimentConfig(model=model), factories.SCHEMA)  # 5 + 3 tokens go in
