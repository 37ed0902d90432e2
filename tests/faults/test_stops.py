"""Runs that are stopped: killed, asked to stop, or broken by an exception."""

import os
import shutil
import signal

import jax
import numpy as np
import pytest

from kunlun_jax.interrupts import LINE
from kunlun_jax.training import run_loop
from kunlun_jax.training.workdir import open_workdir
from tests.faults.harness import Outcome, behind_log_line, steps
from tests.training import tiny
from tests.training.runs import records


@pytest.mark.fault(
    "kill -9 during a save",
    "the next start removes what was half written and ends bitwise as if nothing had been",
)
def test_kill_during_a_save(runs, uninterrupted, tmp_path, observe):
    workdir = tmp_path / "run"
    outcome = runs.elsewhere(workdir, fault=("save", 8, "SIGKILL"))
    assert outcome.code == -9
    assert steps(workdir) & {"4", "8"}
    half = workdir / "checkpoints" / "8.orbax-checkpoint-tmp"
    if not half.exists():  # the save was quicker
        shutil.copytree(workdir / "checkpoints" / min(steps(workdir)), half)
    resumed = runs.here(workdir)
    assert resumed.code == 0
    assert not half.exists()
    runs.assert_same_run(workdir, uninterrupted)
    observe(outcome)


@pytest.mark.fault(
    "SIGTERM or Ctrl-C", "saves and exits with 0; the same command ends bitwise as if never stopped"
)
def test_sigterm(runs, uninterrupted, tmp_path, monkeypatch, observe):
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        behind_log_line(patch, 7, lambda: os.kill(os.getpid(), signal.SIGTERM))
        outcome = runs.here(workdir)
    assert outcome.code == 0
    assert "stopped and saved at step 7; the same command continues" in outcome.out
    assert "7" in steps(workdir)
    resumed = runs.here(workdir)
    assert resumed.code == 0
    assert "resumed from step 7 of 20" in resumed.out
    runs.assert_same_run(workdir, uninterrupted)
    observe(outcome, "stopped and saved at step 7; the same command continues")


@pytest.mark.fault(
    "Ctrl-C before the first step", "one line; the same command begins, as if nothing had been"
)
def test_ctrl_c_before_the_first_step(runs, uninterrupted, tmp_path, observe):
    workdir = tmp_path / "run"
    outcome = runs.elsewhere(workdir, fault=("begin", 0, "SIGINT"))
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert outcome.message == LINE.strip()
    assert not (workdir / "metrics.jsonl").exists()
    runs.assert_goes_on(workdir, uninterrupted)
    observe(outcome)


@pytest.mark.fault(
    "nobody reads what a run prints, as behind `head`",
    "one line; the same command goes on",
)
def test_output_that_nobody_reads(runs, uninterrupted, tmp_path, observe):
    workdir = tmp_path / "run"
    process = runs.start(workdir)
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=900)
    outcome = Outcome(process.returncode, "", err)
    assert outcome.code == 1
    assert err.splitlines()[-1] == outcome.message == "error: [Errno 32] Broken pipe"
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    runs.assert_goes_on(workdir, uninterrupted)
    observe(outcome)


@pytest.mark.slow
@pytest.mark.fault(
    "a second SIGTERM", "ends at once, without saving; the checkpoint before stays good"
)
def test_second_sigterm(runs, uninterrupted, tmp_path, observe):
    workdir = tmp_path / "run"
    outcome = runs.elsewhere(workdir, fault=("log", 7, "SIGTERM,SIGTERM"))
    assert outcome.code == -15
    assert "7" not in steps(workdir)
    runs.assert_goes_on(workdir, uninterrupted)
    observe(outcome)


@pytest.mark.fault(
    "an exception during training",
    "ends with it, pending saves finished; the same command goes on from the last checkpoint",
)
def test_exception(runs, uninterrupted, tmp_path, monkeypatch, observe):
    workdir = tmp_path / "run"

    def broken():
        raise OSError(5, "Input/output error", "shard-00001")

    with monkeypatch.context() as patch:
        behind_log_line(patch, 9, broken)
        outcome = runs.here(workdir)
    assert outcome.code == 1
    assert outcome.message == "error: [Errno 5] Input/output error: 'shard-00001'"
    assert steps(workdir) == {"8"}
    runs.assert_goes_on(workdir, uninterrupted)
    observe(outcome)


@pytest.mark.fault(
    "an error of XLA in the middle of a step, which has taken the state with it",
    "ends with it; the same command goes on from the last checkpoint",
)
def test_error_in_a_step(runs, uninterrupted, tmp_path, monkeypatch, observe_text):
    workdir, trainer = tmp_path / "run", run_loop.Trainer

    def failing(train_step, **others):
        def step(state, batch):
            number = int(state.step) + 1
            state = train_step(state, batch)
            if number == 10:
                raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")
            return state

        return trainer(train_step=step, **others)

    with monkeypatch.context() as patch:
        patch.setattr(run_loop, "Trainer", failing)
        with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
            runs.here(workdir)
    assert steps(workdir) == {"8"}
    resumed = runs.here(workdir)
    assert resumed.code == 0
    assert "resumed from step 8 of 20" in resumed.out
    runs.assert_same_run(workdir, uninterrupted)
    observe_text("the error with its traceback; the checkpoint of step 8")


@pytest.mark.slow
@pytest.mark.fault(
    "a resume on two devices of what one device has saved",
    "restored into the other sharding; the data go on where they were",
)
def test_other_devices(runs, uninterrupted, tmp_path, monkeypatch, observe):
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        behind_log_line(patch, 7, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert runs.here(workdir).code == 0
    outcome = runs.elsewhere(workdir, devices=2)
    assert outcome.code == 0, outcome.err
    assert "resumed from step 7 of 20" in outcome.out
    losses = [[x["train/loss"] for x in records(path) if "train/loss" in x]
              for path in (workdir, uninterrupted)]  # fmt: skip
    # Sums of another order; a batch of other examples would be off in the second digit.
    np.testing.assert_allclose(*losses, rtol=1e-4)
    observe(outcome, "resumed from step 7 of 20; losses equal to 1e-4")


@pytest.mark.fault("two runs in one workdir", "the second refuses, and names the first")
def test_two_runs_in_one_workdir(runs, tmp_path, observe):
    workdir = tmp_path / "run"
    with open_workdir(workdir, tiny.experiment(runs.data)):
        before = {path.name: path.read_bytes() for path in workdir.iterdir()}
        outcome = runs.here(workdir)
        assert {path.name: path.read_bytes() for path in workdir.iterdir()} == before
    assert outcome.code == 1
    assert outcome.message.startswith(f"error: {workdir}: in use by process ")
    observe(outcome)


@pytest.mark.fault(
    "a workdir of other settings", "refused before the first step, naming the setting"
)
def test_other_settings(runs, uninterrupted, observe):
    before = records(uninterrupted)
    outcome = runs.here(uninterrupted, "optimizer.learning_rate=1.0")
    assert outcome.code == 1
    assert "config.optimizer.learning_rate" in outcome.message
    assert records(uninterrupted) == before
    observe(outcome)


@pytest.mark.fault(
    "a data set that moved since the last start, and settings that change no number",
    "the content decides: the run goes on, and ends bitwise as if nothing had been",
)
def test_moved_data_set(runs, uninterrupted, tmp_path, observe):
    workdir, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(uninterrupted, workdir)
    shutil.copytree(runs.data, moved)
    outcome = runs.here(workdir, f"data.directory={moved}", "training.log_every=3")
    assert outcome.code == 0, outcome.err
    assert "resumed from step 20 of 20" in outcome.out
    runs.assert_same_run(workdir, uninterrupted)
    observe(outcome, "resumed from step 20 of 20")


@pytest.mark.fault(
    "a data set of another content, under a new name or in the place of the run's",
    "refused before the first step; the run remembers its own",
)
def test_another_data_set(runs, uninterrupted, tmp_path, observe):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    kept = {path.name: path.read_bytes() for path in workdir.glob("*.json")}
    other = f"data.directory={tmp_path / 'other'}"
    outcome = runs.here(workdir, other, "data.options.seed=1")
    assert outcome.code == 1
    assert "holds a run on data set" in outcome.message
    assert {path.name: path.read_bytes() for path in workdir.glob("*.json")} == kept
    observe(outcome)
