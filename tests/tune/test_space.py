"""What a search may say, and what is refused before anything is run."""

import re

import pytest

from configs import base
from kunlun_jax.config import ConfigError, ExperimentConfig, experiment_config, to_mapping
from kunlun_jax.tune.space import Search, changed, overrides, read_space
from tests import factories
from tests.documents import ROOT

CONFIG = ExperimentConfig(model=factories.config())
STREAM = CONFIG.model.streams[0].name


class TestForms:
    @pytest.mark.parametrize(
        ("text", "search"),
        [
            (
                "optimizer.learning_rate=log:1e-4:1e-2",
                Search("optimizer.learning_rate", "log", (1e-4, 1e-2)),
            ),
            (
                " optimizer.weight_decay = linear : 0 : 1 ",
                Search("optimizer.weight_decay", "linear", (0.0, 1.0)),
            ),
            ("model.num_layers=int:1:4", Search("model.num_layers", "int", (1, 4))),
            ("model.dim=choice:16,32", Search("model.dim", "choice", (16, 32))),
            (
                "model.head_dims=choice:(64,32),(32,)",
                Search("model.head_dims", "choice", ((64, 32), (32,))),
            ),
            (
                "model.wukong.partition=choice:full, contiguous",
                Search("model.wukong.partition", "choice", ("full", "contiguous")),
            ),
            (
                "model.comp_skip=choice:true,False",
                Search("model.comp_skip", "choice", (True, False)),
            ),
            (
                f"model.streams.{STREAM}.window=log:1:64",
                Search(f"model.streams.{STREAM}.window", "log", (1, 64)),
            ),
        ],
    )
    def test_each_has_values_of_the_settings_own_type(self, text, search):
        (found,) = read_space(CONFIG, [text])
        assert found == search
        assert [type(value) for value in found.values] == [type(value) for value in search.values]

    def test_a_file_has_them_line_by_line(self, tmp_path):
        file = tmp_path / "space.txt"
        file.write_text("# the rates\n\noptimizer.learning_rate=log:1e-4:1e-2  # AdamW\n")
        found = read_space(CONFIG, ["model.dim=choice:16,32"], file)
        assert [search.name for search in found] == ["model.dim", "optimizer.learning_rate"]

    def test_a_line_of_a_file_is_named(self, tmp_path):
        file = tmp_path / "space.txt"
        file.write_text("\noptimizer.learning_rate=1e-4\n")
        with pytest.raises(ConfigError, match=r"^.*space\.txt, line 2: expected NAME=log:LOW:HIGH"):
            read_space(CONFIG, [], file)

    def test_a_file_that_is_no_text(self, tmp_path):
        file = tmp_path / "space.txt"
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="expected text"):
            read_space(CONFIG, [], file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.learning_rate", "expected NAME=log:LOW:HIGH"),
        ("optimizer.learning_rate=1e-4:1e-2", "expected NAME=log:LOW:HIGH"),
        ("optimizer.learning_rate=log:1e-4", "expected NAME=log:LOW:HIGH"),
        ("optimizer.learning_rate=log:low:high", "expected NAME=log:LOW:HIGH"),
        ("optimizer.learning_rate=choice:", "expected NAME=log:LOW:HIGH"),
        ("=log:1:2", "expected NAME=log:LOW:HIGH"),
        ("optimizer.learning_rate=log:1e-2:1e-4", "expected LOW < HIGH, got '1e-2:1e-4'"),
        ("optimizer.learning_rate=log:0:1", "config.optimizer.learning_rate: expected > 0, got 0"),
        ("optimizer.weight_decay=log:0:1", "expected LOW > 0 of log"),
        ("optimizer.learning_rate=log:1e-4:inf", "expected a finite number, got inf"),
        (
            "optimizer.b1=linear:0.5:1",
            r"config.optimizer.b1: expected a fraction in \[0, 1\), got 1",
        ),
        ("optimizer.lerning_rate=log:1:2", "unknown key 'lerning_rate'; did you mean 'learning_"),
        ("optimiser.b1=linear:0:0.5", "config: unknown key 'optimiser'; did you mean 'optimizer'"),
        ("optimizer=choice:1,2", "config.optimizer: expected a mapping, got 1"),
        ("seed.x=int:1:2", "config.seed: expected int"),
        ("model.dim=linear:8:16.5", "config.model.dim: expected int, got 16.5"),
        ("model.dim=int:0:8", "config.model.dim: expected > 0, got 0"),
        ("optimizer.b1=int:0:0.5", "expected whole numbers, got '0:0.5'"),
        ("model.dim=choice:8", "expected at least two choices, all different, got '8'"),
        ("model.dim=choice:8,8", "expected at least two choices"),
        ("model.dim=choice:8,wide", "config.model.dim: expected int, got 'wide'"),
        ("model.name=choice:din,sasrec", "config.model.name: expected one of"),
        ("model.comp_skip=linear:0:1", "config.model.comp_skip: expected bool, got 0"),
        ("model.streams.cart.window=int:1:2", "config.model.streams.cart: missing key"),
        ("data.directory=choice:a,b", "expected a setting that leaves the data what they are"),
        ("data.options.num_users=int:1:2", "expected a setting that leaves the data what they"),
    ],
)
def test_a_bad_search_is_one_line_that_names_it(text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        read_space(CONFIG, [text])
    assert str(raised.value).startswith(f"--search={text}: ")
    assert "\n" not in str(raised.value)


def test_a_setting_comes_once_and_something_is_searched():
    text = "model.dim=choice:16,32"
    with pytest.raises(ConfigError, match=r"expected every setting once, got 'model\.dim'"):
        read_space(CONFIG, [text, text])
    with pytest.raises(ConfigError, match="--search: expected NAME=log:LOW:HIGH"):
        read_space(CONFIG, [])


def test_what_the_documentation_searches_goes_with_base():
    config = experiment_config(base.get_config())
    page, help_text = "docs/tuning.md", "kunlun_jax/tune/__main__.py"
    texts = re.findall(r"^\| `([\w.]+=[^`]+)` \|", (ROOT / page).read_text(), re.MULTILINE)
    for file in (page, "README.md", help_text):
        texts += re.findall(r"--search=([\w.]+=\S+)", (ROOT / file).read_text())
    assert len(texts) > 7
    for text in texts:
        (search,) = read_space(config, [text])
        for value in search.values:
            experiment_config(changed(to_mapping(config), search.name, value))


class TestValues:
    def test_are_short_numbers_within_the_range(self):
        rate = Search("optimizer.learning_rate", "log", (0.0012345, 0.0098767))
        assert rate.value(0.00345678) == 0.003457
        assert rate.value(0.0098767) == 0.0098767
        assert Search("model.num_layers", "int", (1, 4)).value(3) == 3

    def test_of_a_choice_are_found_by_their_texts(self):
        dims = Search("model.head_dims", "choice", ((64, 32), (32,)))
        assert [dims.value(label) for label in dims.labels] == [(64, 32), (32,)]

    def test_change_one_setting_and_leave_the_given_ones(self):
        settings = to_mapping(CONFIG)
        config = experiment_config(changed(settings, f"model.streams.{STREAM}.window", 7))
        assert config.model.streams[0].window == 7
        assert settings == to_mapping(CONFIG)

    def test_are_flags_that_a_shell_takes(self):
        values = {"optimizer.learning_rate": 1e-05, "model.head_dims": (64, 32)}
        assert overrides(values) == (
            "--config.optimizer.learning_rate=1e-05 '--config.model.head_dims=(64, 32)'"
        )
