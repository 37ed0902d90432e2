import json
import pathlib
import signal
import sys

import pytest
from absl import flags

from kunlun_jax.config import experiment_config
from kunlun_jax.training import allocator
from kunlun_jax.training.run import open_run
from tests.processes import start_python
from tests.training import tiny
from tests.training.runs import assert_equal_states, records

ROOT = pathlib.Path(__file__).parents[1]
TINY = f"--config={ROOT / 'tests' / 'training' / 'tiny.py'}"
# Runs a program that gets a signal as soon as it has recorded the metrics of a step.
SIGNAL_AT_STEP = """
import os, runpy, sys
from kunlun_jax.training.workdir import MetricWriter

number, step, sys.argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
write = MetricWriter.write

def write_and_signal(self, at, metrics):
    write(self, at, metrics)
    if at == step:
        os.kill(os.getpid(), number)

MetricWriter.write = write_and_signal
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def train_module():
    """The program, imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allocator, "keep_freed_memory", lambda: False)
        import train
    return train


@pytest.fixture
def complaint(train_module, monkeypatch):
    """Call main with arguments it has to refuse, and return what it leaves behind on stderr."""

    def complaint(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        flags.FLAGS.unparse_flags()
        for name in [name for name in flags.FLAGS if name.startswith("config.")]:
            delattr(flags.FLAGS, name)  # the overrides of an earlier call
        sys.modules.pop("config_config", None)  # its config file, as ml_collections names it
        with pytest.raises(SystemExit) as leaving:
            train_module.main(train_module._parse_flags(sys.argv))
        # Python prints a string on stderr and exits with code 1.
        message = leaving.value.code
        assert isinstance(message, str)
        assert message.startswith("error: ")
        assert "\n" not in message
        return message

    return complaint


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "tiny"


class TestBadFlags:
    def test_unknown_config_key(self, complaint):
        assert "'batch_sze'" in complaint(TINY, "--config.data.batch_sze=8")
        assert "'cart'" in complaint(TINY, "--config.model.streams.cart.max_len=8")

    @pytest.mark.parametrize(
        "override", ["data.batch_size=many", "data.batch_size=2.5", "data=3", "model.comp_skip=7"]
    )
    def test_wrong_type(self, complaint, override):
        assert override in complaint(TINY, f"--config.{override}")

    def test_value_out_of_range(self, complaint, tmp_path):
        message = complaint(TINY, f"--workdir={tmp_path / 'w'}", "--config.data.batch_size=-8")
        assert "config.data.batch_size: expected > 0, got -8" in message
        assert not (tmp_path / "w").exists()

    def test_missing_config_file(self, complaint, tmp_path):
        assert "absent.py" in complaint(f"--config={tmp_path / 'absent.py'}")
        assert "absent.py" in complaint(f"--config={tmp_path / 'absent.py'}", "--config.seed=1")

    def test_no_config(self, complaint):
        assert "--config" in complaint()

    def test_unknown_flag(self, complaint):
        assert "wrkdir" in complaint(TINY, "--wrkdir=runs/a")

    def test_argument_that_is_no_flag(self, complaint):
        assert "'runs/a'" in complaint(TINY, "runs/a")


class TestBadConfigFile:
    def write(self, tmp_path, change):
        file = tmp_path / "experiment.py"
        text = "from tests.training import tiny\n\ndef get_config():\n"
        file.write_text(f"{text}    config = tiny.get_config()\n    {change}\n    return config\n")
        return f"--config={file}"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("config.data.batchsize = 3", "config.data: unknown key 'batchsize'"),
            ("del config.data.batch_size", "config.data: missing key 'batch_size'"),
            ("config.seed = None", "config.seed: expected int, got None"),
        ],
    )
    def test_wrong_settings(self, complaint, tmp_path, change, message):
        assert message in complaint(self.write(tmp_path, change))

    def test_no_config_in_it(self, complaint, tmp_path):
        (tmp_path / "empty.py").write_text("")
        assert "get_config" in complaint(f"--config={tmp_path / 'empty.py'}")


class TestBadDirectories:
    def refuse(self, complaint, data, workdir, *arguments):
        return complaint(
            TINY, f"--config.data.directory={data}", f"--workdir={workdir}", *arguments
        )

    def test_foreign_workdir(self, complaint, data, tmp_path):
        (tmp_path / "thesis.txt").write_text("")
        assert "thesis.txt" in self.refuse(complaint, data, tmp_path)

    def test_workdir_that_is_a_file(self, complaint, data, tmp_path):
        (tmp_path / "file").write_text("")
        assert "cannot be used as workdir" in self.refuse(complaint, data, tmp_path / "file")

    def test_workdir_that_cannot_be_made(self, complaint, data, tmp_path):
        (tmp_path / "file").write_text("")
        message = self.refuse(complaint, data, tmp_path / "file" / "w")
        assert "cannot be used as workdir" in message

    def test_data_set_of_other_options(self, complaint, data, tmp_path, train_module):
        config = tiny.experiment(data)
        with open_run(config, tmp_path):
            pass
        message = self.refuse(complaint, data, tmp_path / "w", "--config.data.options.num_users=41")
        assert f"{data}: expected source" in message

    def test_data_directory_of_something_else(self, complaint, tmp_path):
        (tmp_path / "thesis").mkdir()
        message = self.refuse(complaint, tmp_path / "thesis", tmp_path / "w")
        assert "no data set here" in message

    def test_missing_data_files(self, complaint, tmp_path):
        config = f"--config={ROOT / 'configs' / 'movielens_1m.py'}"
        message = complaint(
            config,
            f"--workdir={tmp_path / 'w'}",
            f"--config.data.options.path={tmp_path / 'absent'}",
            f"--config.data.directory={tmp_path / 'd'}",
        )
        assert "ratings.dat" in message
        assert "absent" in message


@pytest.mark.parametrize("name", ["base", "complete_journey", "movielens_1m", "smoke", "synthetic"])
def test_every_config_is_valid(train_module, monkeypatch, name):
    file = str(ROOT / "configs" / f"{name}.py")
    monkeypatch.setattr(sys, "argv", ["train.py", f"--config={file}"])
    flags.FLAGS.unparse_flags()
    train_module._parse_flags(sys.argv)
    train_module.experiment_config(train_module.CONFIG.value)
    assert train_module._default_workdir() == pathlib.Path("runs") / name


class Program:
    """train.py in processes of its own, started in a directory elsewhere."""

    def __init__(self, directory, compilation_cache):
        self.directory = directory
        self.variables = {"JAX_COMPILATION_CACHE_DIR": str(compilation_cache)}

    def start(self, *arguments, stop=None):
        """Start it; with stop = (signal, step), it gets the signal at that step."""
        program = [str(ROOT / "train.py"), TINY, "--config.data.directory=data", *arguments]
        if stop is not None:
            program = ["-c", SIGNAL_AT_STEP, *map(str, map(int, stop)), *program]
        return start_python(*program, cwd=self.directory, variables=self.variables)

    def run(self, *arguments, stop=None):
        """Run it to its end; return exit code, stdout and stderr."""
        process = self.start(*arguments, stop=stop)
        out, err = process.communicate(timeout=900)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def program(tmp_path_factory, compilation_cache):
    return Program(tmp_path_factory.mktemp("elsewhere"), compilation_cache)


def run_to_the_end(program, workdir, *arguments):
    """Run the program; return its final state, its record and its report."""
    code, out, err = program.run(f"--workdir={workdir}", *arguments)
    assert code == 0, err
    config = json.loads((program.directory / workdir / "config.json").read_text())
    config["data"]["directory"] = str(program.directory / "data")
    with open_run(experiment_config(config), program.directory / workdir) as run:
        state = run.resume_or_initialize()
    lines = records(program.directory / workdir)
    assert int(state.step) == lines[-1]["step"]
    report = out[out.index("best checkpoint: step") :]
    return state, lines, report.replace(f"{workdir}/report.html", "report.html")


@pytest.fixture(scope="module")
def uninterrupted(program):
    """A run that nothing stopped."""
    return run_to_the_end(program, "uninterrupted")


class TestProgram:
    def test_bad_input_is_one_line_and_code_one(self, program):
        code, out, err = program.run("--config.data.batch_sze=8")
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1

    def test_says_what_it_does(self, uninterrupted):
        _, lines, shown = uninterrupted
        assert lines[-1]["step"] == tiny.NUM_STEPS
        assert f"{lines[-1]['test/normalized_entropy']:.5f}" in shown

    def test_stopped_and_killed_it_ends_bitwise_equal(self, program, uninterrupted):
        code, out, err = program.run("--workdir=stopped", stop=(signal.SIGTERM, 6))
        assert code == 0, err
        assert "stopped and saved at step 6" in out
        # Behind the checkpoint at 8; tests/training/test_loop.py has the other places.
        code, _, err = program.run("--workdir=stopped", stop=(signal.SIGKILL, 9))
        assert code == -signal.SIGKILL, err
        state, lines, shown = run_to_the_end(program, "stopped")
        assert_equal_states(state, uninterrupted[0])
        assert (lines, shown) == uninterrupted[1:]
