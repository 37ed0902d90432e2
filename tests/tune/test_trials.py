"""A search of tiny runs: stopped and killed where it hurts, it ends like one that was not."""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import sys

import optuna
import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.data.opening import open_dataset
from kunlun_jax.training.finished_run import read_config
from kunlun_jax.training.loop import NonFiniteError
from kunlun_jax.training.workdir import WorkdirError, has_report
from kunlun_jax.tune import study as studies
from kunlun_jax.tune import trials
from kunlun_jax.tune.metric import Metric
from kunlun_jax.tune.results import summary
from kunlun_jax.tune.space import read_space
from kunlun_jax.tune.study import Study
from kunlun_jax.tune.trials import Plan, carry_out
from tests.processes import run_python, start_python
from tests.training import tiny
from tests.training.runs import records

RATE = "optimizer.learning_rate=log:1e-4:1e-1"
SETTINGS = {"model.name": "din", "training.eval_every": 5}


class SecondTrialAtItsSecondEvaluation(optuna.pruners.BasePruner):
    """Prunes it, and nothing else."""

    def prune(self, study, trial):
        return trial.number == 1 and trial.last_step == 2


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    config = tiny.experiment(tmp_path_factory.mktemp("data") / "data", **SETTINGS)
    open_dataset(config.data)
    return Plan(config, read_space(config, [RATE]), Metric("normalized_entropy"), pruner="none")


@pytest.fixture
def pruner(monkeypatch):
    monkeypatch.setitem(studies._PRUNERS, "none", SecondTrialAtItsSecondEvaluation)


@contextlib.contextmanager
def killed(monkeypatch, method, number):
    """End the program where a trial would call a method of the study."""

    def end(self, trial, *arguments):
        if trial.number == number and arguments[:1] != (1,):  # not at its first evaluation
            sys.exit("killed")
        return original(self, trial, *arguments)

    original = getattr(Study, method)
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="killed"):
        patch.setattr(Study, method, end)
        yield


@pytest.mark.usefixtures("pruner")
def test_a_search_that_was_stopped_ends_like_one_that_was_not(plan, tmp_path, monkeypatch, capsys):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    found = carry_out(plan, whole, 2)
    assert [trial.ending for trial in found] == ["complete", "pruned"]
    assert "trial 001 of 2: optimizer.learning_rate=" in capsys.readouterr().out
    with killed(monkeypatch, "report", 0):  # saved, and not yet told to the study
        carry_out(plan, pieces, 2)
    with killed(monkeypatch, "finish", 1):  # pruned, and not yet ended
        carry_out(plan, pieces, 2)
    assert carry_out(plan, pieces, 2) == found
    assert (pieces / "tune.json").read_text() == (whole / "tune.json").read_text()
    for name in ("000", "001"):
        assert records(pieces / "trials" / name) == records(whole / "trials" / name)
    # A trial is a run: the complete one is finished, the pruned one stands at its evaluation.
    assert has_report(whole / "trials" / "000")
    config = read_config(whole / "trials" / "000")
    assert config.optimizer.learning_rate == found[0].values["optimizer.learning_rate"]
    assert config.tracking.run_name == "whole_000"
    assert records(whole / "trials" / "001")[-1]["step"] == 10
    # Its value is the best of its evaluations.
    values = [line.get("val/normalized_entropy") for line in records(whole / "trials" / "000")[:-1]]
    assert found[0].value == min(value for value in values if value is not None)
    for change, message in (
        (
            {"metric": Metric("auc_roc")},
            "a study with metric = 'normalized_entropy', got 'auc_roc'",
        ),
        ({"pruner": "median"}, "a study with pruner = 'none', got 'median'"),
        (
            {"space": read_space(plan.config, ["optimizer.b1=linear:0:0.9"])},
            r"a study with search\.optimizer\.b1 = 'nothing'",
        ),
        ({"config": dataclasses.replace(plan.config, seed=7)}, r"a study with config\.seed = 0"),
    ):
        with pytest.raises(WorkdirError, match=message):
            carry_out(dataclasses.replace(plan, **change), whole, 2)


def test_a_trial_that_is_stopped_stops_the_search_and_is_the_next(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_outcome", lambda *arguments: None)
    assert carry_out(plan, tmp_path, 2) == []
    with contextlib.closing(trials._opened(plan, tmp_path)) as study:
        assert study.next().number == 0


class TestFailures:
    @pytest.mark.parametrize("error", [ConfigError("they do not fit"), NonFiniteError("step 3")])
    def test_of_a_trial_are_kept_and_the_search_goes_on(self, plan, tmp_path, monkeypatch, error):
        def fail(*arguments):
            raise error

        monkeypatch.setattr(trials, "open_run", fail)
        found = carry_out(plan, tmp_path, 2)
        assert [(trial.ending, trial.message) for trial in found] == [("failed", str(error))] * 2
        kept = json.loads((tmp_path / "tune.json").read_text())
        assert (kept["best"], kept["trials"][1]["message"]) == ([], str(error))
        assert summary(plan.metric, found) == "2 trials: 0 complete, 0 pruned, 2 failed"

    def test_of_the_machine_end_the_command_and_the_trial_is_the_next(
        self, plan, tmp_path, monkeypatch
    ):
        def fail(*arguments):
            raise OSError("the disk is full")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is full"):
            patch.setattr(trials, "open_run", fail)
            carry_out(plan, tmp_path, 1)
        with contextlib.closing(trials._opened(plan, tmp_path)) as study:
            assert (study.trials(), study.next().number) == ([], 0)

    def test_a_directory_of_something_else_is_refused(self, plan, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(WorkdirError, match=r"one of a search \(with study\.db\), got 'thesis"):
            carry_out(plan, tmp_path, 1)

    def test_a_search_has_its_directory_alone(self, plan, tmp_path):
        with trials._held(tmp_path), pytest.raises(WorkdirError, match="in use by process"):
            carry_out(plan, tmp_path, 1)


def test_without_optuna_one_line_names_the_extra(plan, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(f"from tests.training.tiny import get_config  # {SETTINGS}\n")
    program = (
        "import runpy, sys; sys.modules['optuna'] = None; "
        "runpy.run_module('kunlun_jax.tune', run_name='__main__', alter_sys=True)"
    )
    flags = f"--config={config}", f"--workdir={tmp_path / 'w'}", f"--search={RATE}"
    result = run_python("-c", program, *flags)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: import of optuna halted")
    assert result.stderr.endswith("pip install 'kunlun_jax[tune]'\n")
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_the_command_killed_again_and_again(plan, tmp_path):
    """Every three seconds of training, until it ends; then what it says is pasted."""
    (tmp_path / "space.txt").write_text(f"{RATE}\noptimizer.weight_decay=linear:0:0.1\n")
    cache = tmp_path / "cache"
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    common = (
        "--config=tests/training/tiny.py",
        f"--config.data.directory={plan.config.data.directory}",
        *(f"--config.{name}={value}" for name, value in SETTINGS.items()),
    )
    flags = ("--trials=4", f"--space={tmp_path / 'space.txt'}", "--pruner=none")
    command = ("-m", "kunlun_jax.tune", *common, *flags)
    whole = run_python(*command, f"--workdir={tmp_path / 'whole'}", variables=variables)
    assert whole.returncode == 0, whole.stderr
    programs = [path.name for path in cache.iterdir() if path.name.startswith("jit_train_step")]
    assert len({name.removesuffix("-atime").removesuffix("-cache") for name in programs}) == 1
    kills = 0
    while True:
        process = start_python(
            *command, f"--workdir={tmp_path / 'pieces'}", variables=variables,
            start_new_session=True,
        )  # fmt: skip
        lines = iter(process.stdout.readline, "")
        if kills < 6 and any(line.startswith("trial ") for line in lines):
            with contextlib.suppress(Exception):
                process.wait(timeout=0.5 + kills)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        break
    assert kills > 3
    results = [(tmp_path / name / "tune.json").read_text() for name in ("whole", "pieces")]
    assert results[0] == results[1]
    assert whole.stdout.endswith(out[out.index("4 trials: 4 complete, 0 pruned, 0 failed") :])
    pasted = shlex.split(whole.stdout.splitlines()[-1])
    trained = run_python(
        "-m", "kunlun_jax.train", *common, *pasted, f"--workdir={tmp_path / 'pasted'}"
    )
    assert trained.returncode == 0, trained.stderr
    best = json.loads(results[0])["best"][0]["number"]
    directory = tmp_path / "whole" / "trials" / f"{best:03d}"
    assert records(tmp_path / "pasted") == records(directory)
    report = run_python("-m", "kunlun_jax.report", directory)
    assert report.returncode == 0, report.stderr
