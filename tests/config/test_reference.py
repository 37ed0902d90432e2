"""base.py and the page of all settings say what the fields say, and what they offer works."""

import math
import typing

import pytest

from configs import base
from kunlun_jax.config import ConfigError, ExperimentConfig, experiment_config, to_mapping
from kunlun_jax.config.fields import ANY_NAME, Bound, settings_of
from kunlun_jax.config.reference import BASE, BEGIN, PAGE, base_source, page

SETTINGS = settings_of(ExperimentConfig)
BASE_CONFIG = experiment_config(base.get_config())


def named(settings):
    return pytest.mark.parametrize(
        "setting", settings, ids=[".".join(setting.path) for setting in settings]
    )


def with_value(path, value):
    """Return base with one value; of a stream, that of purchases."""
    mapping = to_mapping(BASE_CONFIG)
    group = mapping
    for name in path[:-1]:
        group = group["purchase" if name == ANY_NAME else name]
    group[path[-1]] = value
    return mapping


def where(path):
    return ".".join("purchase" if name == ANY_NAME else name for name in ("config", *path))


def test_they_are_current():
    hint = "run python -m kunlun_jax.config.reference"
    assert BASE.read_text() == base_source(BASE.read_text()), hint
    assert PAGE.read_text() == page(), hint


def test_a_base_file_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="expected the lines"):
        base_source(BASE.read_text().replace(BEGIN, ""))


def test_base_has_the_defaults_and_chooses_data_and_streams():
    found, defaults = to_mapping(BASE_CONFIG), to_mapping(ExperimentConfig())
    for mapping in (found, defaults):
        del mapping["model"]["streams"], mapping["data"]["options"]
    assert found == defaults


@named(SETTINGS)
def test_every_setting_has_a_meaning_on_its_field(setting):
    assert setting.meaning.endswith(".") and len(setting.meaning) > 5
    assert f"| `{setting.path[-1]}` |" in page()


@named([setting for setting in SETTINGS if setting.choices])
def test_every_choice_is_explained_and_works_on_base(setting):
    is_list = typing.get_origin(setting.hint) is tuple
    element = where(setting.path) + ("[0]" if is_list else "")
    for choice in setting.choices:
        assert f'"{choice}"' in setting.meaning
        experiment_config(with_value(setting.path, [choice] if is_list else choice))
    with pytest.raises(ConfigError) as raised:
        experiment_config(with_value(setting.path, ["hot"] if is_list else "hot"))
    assert str(raised.value) == f"{element}: expected one of {setting.choices}, got 'hot'"


NUMBERS = [s for s in SETTINGS if typing.get_args(s.hint)[:1] in ((int,), (float,))]
EDGES = {
    "> 0": (0, 1),
    ">= 0": (-1, 0),
    "<= 16777216": (2**24 + 1, 2**24),
    "a fraction in [0, 1]": (1.5, 1),
    "a fraction in [0, 1)": (1, 0),
    "> 0, or -1": (0, -1),
}


@named(NUMBERS)
def test_every_bound_holds_where_it_says(setting):
    plain, *bounds = typing.get_args(setting.hint)
    for bound in bounds:
        assert isinstance(bound, Bound)
        outside, inside = (plain(value) for value in EDGES[bound.words])
        with pytest.raises(ConfigError) as raised:
            experiment_config(with_value(setting.path, outside))
        expected = f"{where(setting.path)}: expected {bound.words}, got {outside!r}"
        assert str(raised.value) == expected
        try:
            experiment_config(with_value(setting.path, inside))
        except ConfigError as error:  # it fits by itself, and not with the others
            assert bound.words not in str(error)


@named([s for s in SETTINGS if s.hint in (int, float) or s in NUMBERS])
def test_what_is_no_number_is_refused_with_the_whole_path(setting):
    plain = next(iter(typing.get_args(setting.hint)), setting.hint)
    finite = "a finite number" if plain is float else "int"
    for value, expected in (
        (True, plain.__name__),
        ("1" * 1000, plain.__name__),
        (None, plain.__name__),
        ([1], plain.__name__),
        (math.nan, finite),
        (math.inf, finite),
        (2**40, "an integer of 32 bits"),
    ):
        with pytest.raises(ConfigError) as raised:
            experiment_config(with_value(setting.path, value))
        assert str(raised.value).startswith(f"{where(setting.path)}: expected {expected}, got ")
        assert len(str(raised.value)) <= 300
