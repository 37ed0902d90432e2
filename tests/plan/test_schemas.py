import pathlib

import pytest

from configs import b200
from kunlun_jax.config import ConfigError, DataConfig
from kunlun_jax.data.sources import SOURCES
from kunlun_jax.plan.schemas import schema_of

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def test_a_config_file_may_tell_it(tmp_path):
    data = DataConfig(source="built", directory=str(tmp_path))
    assert schema_of(data, CONFIGS / "b200.py") == b200.schema()


@pytest.mark.parametrize(
    ("source", "options", "stream"),
    [
        ("complete_journey", (), "purchase"),
        ("movielens_1m", (("path", "nowhere"), ("split", "user_time")), "like"),
        ("synthetic", (), "click"),
    ],
)
def test_a_source_knows_it_without_data(source, options, stream, tmp_path):
    data = DataConfig(source=source, options=options, directory=str(tmp_path))
    assert stream in schema_of(data, CONFIGS / "base.py").stream_by_name


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("built", ()),
        ("unknown", ()),
        ("movielens_1m", (("path", "nowhere"), ("split", "rechorus"))),
        ("complete_journey", (("seed", 1),)),
    ],
)
def test_where_nothing_tells_it_one_line_says_so(source, options, tmp_path):
    data = DataConfig(source=source, options=options, directory=str(tmp_path))
    with pytest.raises(ConfigError, match=r"schema: expected a data set in .* or a function"):
        schema_of(data, CONFIGS / "base.py")


def test_wrong_options_are_refused(tmp_path):
    data = DataConfig(source="synthetic", options=(("users", 3),), directory=str(tmp_path))
    with pytest.raises(ConfigError, match=r"config\.data\.options: "):
        schema_of(data, CONFIGS / "base.py")


@pytest.mark.parametrize("name", ["complete_journey", "movielens_1m_user_time"])
def test_what_a_source_knows_is_what_it_makes(name):
    """Where the data set is built: the sizes written down are those of its vocabularies."""
    directory = CONFIGS.parent / "datasets" / name
    if not (directory / "dataset.json").exists():
        pytest.skip(f"{directory} is not built")
    built = schema_of(DataConfig(directory=str(directory)), CONFIGS / "base.py")
    source = SOURCES[built.name]
    options = {"path": "nowhere"} if name.startswith("movielens") else {}
    known = source.schema(source.make_options(options))
    assert {v.name: v.num_ids for v in known.vocabularies} == {
        v.name: v.num_ids for v in built.vocabularies
    }
    assert known.sparse == built.sparse
