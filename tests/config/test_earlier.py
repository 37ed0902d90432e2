"""Settings that earlier versions wrote are read as those of today."""

import copy
import json

import pytest

from kunlun_jax.config import (
    ConfigError,
    ExperimentConfig,
    UniDotConfig,
    experiment_config,
    in_current_form,
    to_mapping,
)
from tests import factories

CROSS_FEATURES = ("match_attributes", "count_features", "popularity_features")
MODEL = factories.config(**dict.fromkeys(CROSS_FEATURES, False))
TODAY = json.loads(json.dumps(to_mapping(ExperimentConfig(model=MODEL))))


def earlier(activation="gelu_tanh", partition="round_robin", merge="concat"):
    """Return today's settings as the version before wrote them."""
    mapping = copy.deepcopy(TODAY)
    mapping["model"]["gdpa"]["activation"] = activation
    mapping["model"]["wukong"] |= {"partition": partition, "merge": merge}
    for name in CROSS_FEATURES:
        del mapping["model"][name]
    return mapping


def test_earlier_settings_are_todays():
    assert in_current_form(earlier()) == TODAY
    assert experiment_config(earlier()) == experiment_config(TODAY)


def test_todays_settings_stay():
    assert in_current_form(TODAY) is TODAY


def test_one_activation_a_head_was_a_text_with_commas():
    found = in_current_form(earlier(activation="gelu,relu"))
    assert found["model"]["gdpa"]["activation"] == ["gelu", "relu"]


def test_outputs_of_a_full_partition_were_merged_by_a_sum():
    found = in_current_form(earlier(partition="full", merge="sum"))
    assert found["model"]["wukong"] == {**TODAY["model"]["wukong"], "partition": "full"}


@pytest.mark.parametrize(("partition", "merge"), [("full", "concat"), ("contiguous", "sum")])
def test_a_merge_that_does_not_go_with_the_partition_is_refused(partition, merge):
    with pytest.raises(ConfigError, match=r"^config\.model\.wukong: unknown key 'merge'"):
        experiment_config(earlier(partition=partition, merge=merge))


def test_a_peer_that_came_later_has_its_defaults_and_cross_features_stay():
    mapping = copy.deepcopy(TODAY)
    mapping["model"]["match_attributes"] = True
    del mapping["model"]["unidot"]
    model = experiment_config(mapping).model
    assert model.unidot == UniDotConfig()
    assert model.match_attributes


def test_a_group_that_came_later_is_as_it_was_without():
    mapping = earlier()
    del mapping["tracking"]
    assert in_current_form(mapping) == TODAY
    assert in_current_form({"tracking": 3}) == {"tracking": 3}


def test_settings_of_data_that_came_later_are_as_they_were_without():
    mapping = earlier()
    for name in ("columns_directory", "verify", "shuffle_window", "parts"):
        del mapping["data"][name]
    assert in_current_form(mapping) == TODAY


@pytest.mark.parametrize("values", [None, 3, [], {"model": 3}, {"model": {"gdpa": []}}, {}])
def test_whatever_else_it_is_comes_back(values):
    assert in_current_form(values) == values


def test_the_settings_that_were_given_are_not_changed():
    given = earlier()
    in_current_form(given)
    assert given == earlier()
