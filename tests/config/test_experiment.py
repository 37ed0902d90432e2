import copy
import dataclasses
import json
from typing import get_args

import pytest
from ml_collections import ConfigDict

import pallas_kernels
from configs import base
from kunlun_jax.config import (
    Activation,
    ConfigError,
    ExperimentConfig,
    StreamConfig,
    experiment_config,
    to_mapping,
)
from tests import factories

CONFIG = ExperimentConfig(model=factories.config())
MAPPING = to_mapping(CONFIG)
REMOVED = object()


def changed(path, value):
    """Return the mapping with one entry, at a path with dots, set, added or removed."""
    mapping = copy.deepcopy(MAPPING)
    *parents, last = path.split(".")
    node = mapping
    for name in parents:
        node = node[name]
    if value is REMOVED:
        del node[last]
    else:
        node[last] = value
    return mapping


def message(path, value):
    with pytest.raises(ConfigError) as raised:
        experiment_config(changed(path, value))
    text = str(raised.value)
    assert "\n" not in text
    return text


class TestRoundTrip:
    def test_a_mapping_gives_the_configuration_back(self):
        assert experiment_config(MAPPING) == CONFIG

    def test_json_keeps_it(self):
        assert experiment_config(json.loads(json.dumps(MAPPING))) == CONFIG

    def test_a_config_dict_gives_it_too(self):
        # A ConfigDict sorts its keys; these streams are in that order already.
        assert experiment_config(ConfigDict(MAPPING)) == CONFIG

    def test_options_of_the_source_keep_names_and_values(self):
        mapping = changed("data.options", {"num_negatives": 4, "days": [1, 2], "name": "x"})
        config = experiment_config(mapping)
        assert dict(config.data.options) == {"num_negatives": 4, "days": [1, 2], "name": "x"}
        assert to_mapping(config) == mapping

    def test_widths_of_tables_keep_names_and_values(self):
        mapping = changed("model.table_dims", {"item": 12, "brand": 3})
        config = experiment_config(mapping)
        assert config.model.table_dims == (("item", 12), ("brand", 3))
        assert to_mapping(config) == mapping

    def test_a_schedule_and_an_int_for_a_float(self):
        stream = dataclasses.replace(
            factories.BUY, schedule=("pooling pffn", "attention", "", "pooling")
        )
        config = ExperimentConfig(
            model=factories.config(streams=(stream,), wukong={"num_experts": 1})
        )
        assert experiment_config(to_mapping(config)) == config
        as_int = experiment_config(changed("data.num_epochs", 3)).data.num_epochs
        assert (as_int, type(as_int)) == (3.0, float)

    def test_the_base_file_names_every_field(self):
        config = experiment_config(base.get_config())
        assert experiment_config(to_mapping(config)) == config


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("surprise", 1, "config: unknown key 'surprise'"),
        ("model.layers", 1, "config.model: unknown key 'layers'"),
        ("model.streams.buy.name", "x", "config.model.streams.buy: expected a mapping without"),
        ("optimizer", REMOVED, "config: missing key 'optimizer'"),
        ("model.gdpa.pffn", REMOVED, "config.model.gdpa: missing key 'pffn'"),
        ("model.streams.view.window", REMOVED, "config.model.streams.view: missing key 'window'"),
        ("model", 3, "config.model: expected a mapping, got 3"),
        ("model.streams.buy", 3, "config.model.streams.buy: expected a mapping without"),
        ("model.dim", 8.0, "config.model.dim: expected int, got 8.0"),
        ("model.dim", True, "config.model.dim: expected int, got True"),
        ("model.comp_skip", 1, "config.model.comp_skip: expected bool, got 1"),
        ("data.source", 1, "config.data.source: expected str, got 1"),
        ("data.num_epochs", "1", "config.data.num_epochs: expected float, got '1'"),
        ("data.num_epochs", True, "config.data.num_epochs: expected float, got True"),
        ("model.table_dims", {"item": 0}, "config.model.table_dims.item: expected > 0, got 0"),
        (
            "model.table_dims",
            {"item": True},
            "config.model.table_dims.item: expected int, got True",
        ),
        ("model.table_dims", 8, "config.model.table_dims: expected a mapping, got 8"),
        ("model.head_dims", 64, "config.model.head_dims: expected a list, got 64"),
        ("model.head_dims", {"a": 1}, "config.model.head_dims: expected a list, got {'a': 1}"),
        ("model.head_dims", "64", "config.model.head_dims: expected a list, got '64'"),
        ("model.head_dims", [64, "x"], "config.model.head_dims[1]: expected int, got 'x'"),
        ("model.streams.buy.schedule", "pffn", "schedule: expected a list, got 'pffn'"),
    ],
)
def test_what_does_not_parse_is_refused(path, value, expected):
    assert expected in message(path, value)


CHOICES = {
    "model.name": "resnet",
    "model.gdpa.pffn": "dense",
    "model.gdpa.temperature": "hot",
    "model.pooling.pooling": "mean",
    "model.pooling.pool_from": "seeds",
    "model.wukong.partition": "random",
    "model.interaction_input": "all",
    "model.allocation": "fair",
    "model.attention": "sparse",
    "model.rote.gaps": "none",
    "model.init": "zeros",
    "model.dtype": "float16",
    "optimizer.table_dtype": "float16",
}


@pytest.mark.parametrize("path", CHOICES)
def test_an_unknown_choice_is_refused(path):
    text = message(path, CHOICES[path])
    assert text.startswith(f"config.{path}: expected one of (")
    assert text.endswith(f"got {CHOICES[path]!r}")


POSITIVE = [
    "data.batch_size",
    "data.eval_batch_size",
    "data.num_epochs",
    "data.prefetch",
    "data.num_threads",
    "model.dim",
    "model.num_layers",
    "model.n_sum",
    "model.pooling.rank",
    "model.rote.time_scale",
    "model.rote.base",
    "model.rote.time_base",
    "model.wukong.num_experts",
    "model.wukong.fm_rank",
    "model.wukong.mlp_dim",
    "model.wukong.num_tokens",
    "optimizer.learning_rate",
    "optimizer.table_learning_rate",
    "training.log_every",
    "training.eval_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    *(
        f"model.streams.view.{field.name}"
        for field in dataclasses.fields(StreamConfig)
        if field.type is int
    ),
]


@pytest.mark.parametrize("path", POSITIVE)
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_positive_is_checked(path, value):
    text = message(path, value)
    assert text.startswith(f"config.{path}: expected > 0, got {value}")


def test_a_head_layer_without_units_is_refused():
    assert message("model.head_dims", [8, 0]) == "config.model.head_dims[1]: expected > 0, got 0"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("model.streams", {}, "config.model.streams: expected at least one stream, got 'none'"),
        (
            "model.streams.buy.model_dim",
            10,
            "config.model.streams.buy.model_dim: expected a multiple of 2 * num_heads = 4, got 10",
        ),
        (
            "model.streams.buy.n_seeds",
            1,
            "config.model.streams.buy.n_seeds: expected at least n_tokens = 2, got 1",
        ),
        (
            "model.streams.buy.num_layers",
            5,
            "config.model.streams.buy.num_layers: expected at most config.model.num_layers = 4, "
            "got 5",
        ),
        ("model.wukong.merge", "sum", "config.model.wukong: unknown key 'merge'"),
        ("model.wukong.num_experts", 3, "expected a divisor of the 8 tokens"),
        ("model.wukong.fm_fraction", 1.5, "fm_fraction: expected a fraction in [0, 1], got 1.5"),
        ("model.wukong.fm_fraction", -0.1, "fm_fraction: expected a fraction in [0, 1], got -0.1"),
        ("model.gdpa.activation", "tanh", "config.model.gdpa.activation[0]: expected one of"),
        # "buy" has two heads, "view" three.
        (
            "model.gdpa.activation",
            ["gelu", "relu"],
            "or 3 for the heads of stream 'view', got ('gelu'",
        ),
        (
            "model.gdpa.activation",
            [],
            "expected one name, or 2 for the heads of stream 'buy', got ()",
        ),
        ("model.streams.buy.schedule", ["pooling"], "schedule: expected 4 strings of the words"),
        (
            "model.streams.buy.schedule",
            ["pooling gdpa", "", "", ""],
            "schedule: expected 4 strings of the words",
        ),
        (
            "model.streams.buy.schedule",
            ["pffn", "pooling", "", ""],
            "schedule: expected 'pooling' in layer 0",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(path, value, expected):
    assert expected in message(path, value)


PEER_COUNTS = [
    ("din", "attention_dims", [8, 0]),
    ("interformer", "num_heads", 0),
    ("interformer", "num_pma", 0),
    ("interformer", "num_recent", 0),
    ("hstu", "num_heads", 0),
    ("hstu", "num_time_buckets", 0),
    ("tokenformer", "num_full_layers", 0),
    ("tokenformer", "windows", [4, 0]),
    ("tokenformer", "ffn_dim", 0),
    ("unidot", "window", 0),
    ("unidot", "num_items", 0),
    ("unidot", "num_pooled", 0),
    ("unidot", "gate_dim", 0),
    ("unidot", "ffn_dim", 0),
]


@pytest.mark.parametrize(("name", "field", "value"), PEER_COUNTS)
def test_settings_of_a_peer_are_checked(name, field, value):
    element = "[1]" if isinstance(value, list) else ""
    expected = f"config.model.{name}.{field}{element}: expected > 0, got 0"
    assert message(f"model.{name}.{field}", value) == expected


@pytest.mark.parametrize("name", ["interformer", "hstu", "tokenformer", "unidot"])
def test_heads_of_a_peer_divide_its_width(name):
    mapping = changed(f"model.{name}.num_heads", 3)
    experiment_config(mapping)  # of no concern to Kunlun
    mapping["model"]["name"] = name
    message = rf"config.model.{name}.num_heads: expected a divisor of half of .* = 8, got 3"
    with pytest.raises(ConfigError, match=message):
        experiment_config(mapping)


class TestStreams:
    def test_uniform_allocation_gives_every_stream_the_widest_share(self):
        buy, view = factories.config(allocation="uniform").streams
        assert view == factories.VIEW
        assert buy == dataclasses.replace(factories.VIEW, name="buy", max_len=10)

    def test_full_attention_sees_the_whole_stream(self):
        streams = factories.config(attention="full").streams
        assert [s.window for s in streams] == [s.max_len for s in streams] == [10, 7]
        assert [s.n_kv for s in streams] == [factories.BUY.n_kv, factories.VIEW.n_kv]

    def test_a_configuration_so_changed_is_the_same_again(self):
        for changes in ({"allocation": "uniform"}, {"attention": "full"}):
            config = ExperimentConfig(model=factories.config(wukong={"num_experts": 1}, **changes))
            assert experiment_config(to_mapping(config)) == config

    def test_a_peer_encodes_all_events_at_its_one_width(self):
        assert factories.config().encoded_streams == (factories.BUY, factories.VIEW)
        encoded = factories.config(name="hstu").encoded_streams
        assert [s.model_dim for s in encoded] == [8, 8]


def test_derived_values():
    assert factories.config().num_pooled_tokens == 5
    assert factories.VIEW.head_dim == 4


def test_activations_are_those_of_the_kernels():
    assert set(get_args(Activation)) == set(pallas_kernels.ACTIVATIONS)
