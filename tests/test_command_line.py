"""The command `kunlun-jax`, and config files by path and by name."""

import functools
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from kunlun_jax import command_line, programs
from kunlun_jax.command_line import CONFIGS, STUDIES, config_file
from tests.documents import ROOT
from tests.processes import start_python

start = functools.partial(start_python, "-m")


@pytest.fixture(scope="module")
def help_of():
    """What `python -m kunlun_jax.NAME --help` says, and its exit code."""
    started = {name: start(f"kunlun_jax.{name}", "--help") for name in programs.PROGRAMS}
    return {
        name: (*process.communicate(timeout=300), process.returncode)
        for name, process in started.items()
    }


class TestPrograms:
    @pytest.mark.parametrize("name", programs.PROGRAMS)
    def test_help_shows_an_example_and_the_flags_and_ends_well(self, help_of, name):
        out, err, code = help_of[name]
        assert (err, code) == ("", 0)
        assert f"\n    kunlun-jax {name} " in out
        assert "\nflags:\n" in out
        assert "\n  --" in out

    @pytest.mark.parametrize("name", programs.PROGRAMS)
    def test_a_command_is_its_program_with_the_rest_of_the_line(self, monkeypatch, name):
        ran = []
        monkeypatch.setattr(sys, "argv", ["kunlun-jax", name, "--out=x"])
        monkeypatch.setattr(
            programs.runpy, "run_module", lambda module, **_: ran.append((module, sys.argv))
        )
        programs.main()
        assert ran == [(programs.PROGRAMS[name][0], ["kunlun-jax", "--out=x"])]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "error: expected a command, one of build, validate, train"),
            (["trian"], "error: unknown command 'trian': expected one of build"),
            (["--version"], "error: unknown command '--version'"),
        ],
    )
    def test_no_command_is_one_line(self, monkeypatch, arguments, message):
        monkeypatch.setattr(sys, "argv", ["kunlun-jax", *arguments])
        with pytest.raises(SystemExit, match=message):
            programs.main()

    def test_help_lists_the_commands(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["kunlun-jax", "--help"])
        programs.main()
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in programs.PROGRAMS)


class TestConfigFile:
    @pytest.mark.parametrize(
        ("text", "ready", "file"),
        [
            ("base", CONFIGS, "configs/base.py"),
            ("own_data:datasets/a:b", CONFIGS, "configs/own_data.py"),
            ("smoke", STUDIES, "configs/scaling/smoke.py"),
        ],
    )
    def test_a_name_is_a_ready_config(self, monkeypatch, tmp_path, text, ready, file):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "base").mkdir()  # the results of a run, say
        assert config_file(text, ready).samefile(ROOT / file)

    @pytest.mark.parametrize("text", ["mine.py", "mine.py:7", "./base", "a/base.py", "base.py"])
    def test_a_path_is_a_path(self, text):
        assert str(config_file(text)) in (text, text.partition(":")[0], "base")

    def test_a_file_goes_before_a_ready_config(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "base").write_text("")
        assert str(config_file("base")) == "base"

    def test_another_name_is_refused_with_those_that_there_are(self):
        with pytest.raises(flags.Error, match=r"no config 'bass': expected .* base, .*, smoke, "):
            config_file("bass")

    @pytest.mark.parametrize(
        ("get_config", "message"),
        [
            ("def get_config(nodes): raise ValueError('no such nodes')", "ValueError: no such n"),
            ("def get_config(): pass", "TypeError: get_config"),
        ],
    )
    def test_what_a_config_file_raises_has_no_traceback(self, tmp_path, get_config, message):
        (tmp_path / "mine.py").write_text(get_config + "\n")
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("c", None, "", values)
        parser = command_line._ReadyOrFile("c", values["c"].parser, CONFIGS)
        with pytest.raises(flags.Error, match=message) as raised:
            parser.parse(f"{tmp_path / 'mine.py'}:9")
        assert "\n" not in str(raised.value)


def test_the_package_has_no_second_copy_of_programs_and_configs():
    package = ROOT / "kunlun_jax"
    assert (package / "train.py").samefile(ROOT / "train.py")
    assert (package / "configs").samefile(ROOT / "configs")
    for path in (ROOT / "configs").rglob("*.py"):  # a config works where no `configs` is
        assert "from configs" not in path.read_text(), path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("kunlun_jax.build", "--out=x", "views 1.csv"),
            "error: expected flags only, got 'views 1.csv' (quote",
        ),
        (("kunlun_jax.validate",), "error: expected the directory of a data set"),
        (("kunlun_jax.compare", "runs/a"), "error: expected the working directories of two runs"),
    ],
)
def test_a_wrong_use_is_one_line_and_not_all_of_the_help(arguments, line):
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    assert (out, process.returncode) == ("", 1)
    assert err.startswith(line)
    assert err.count("\n") == 1
