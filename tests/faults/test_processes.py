"""Runs of two processes with four devices each: stopped, killed, and moved to other devices."""

import json
import random
import shutil
import signal
import time

import numpy as np
import pytest

from kunlun_jax.training.diagnosis import load_batch
from tests import processes
from tests.faults.harness import ROOT, Outcome, steps
from tests.faults.recorded import training_rows
from tests.report.reading import problems
from tests.training import tiny
from tests.training.runs import records

NONE = ("none", 0, "none")
NUM_TRIALS = 20
OFTEN = ("data.num_epochs=5.0", "training.checkpoint_every=2")  # 100 steps
SETTINGS = (("data.num_epochs", 5.0), ("training.checkpoint_every", 2))


def start(runs, workdir, *changes, count=2, devices=4, faults=(), ids=None, slurm=False):
    """Start the processes of a run.

    Args:
        workdir: Working directory.
        changes: Settings.
        count: Processes.
        devices: Devices of each.
        faults: For each process, point, step and fault as `program.py` takes them.
        ids: File for the examples of every step.
        slurm: Whether it is SLURM that tells them of each other.
    """
    module = ["-m", "tests.faults.program"] if ids is None else ["-m", "tests.faults.recorded", ids]
    arguments = [str(ROOT / "train.py"), *runs.arguments(workdir, *changes)]
    faults = [*faults, *[NONE] * (count - len(faults))]
    commands = [[*map(str, [*module, *fault]), *arguments] for fault in faults]
    return processes.start(commands, devices=devices, slurm=slurm)


def finish(started):
    return [Outcome(*end) for end in processes.finish(started)]


def together(runs, workdir, *changes, **options):
    return finish(start(runs, workdir, *changes, **options))


@pytest.fixture(scope="module")
def of_two(runs, tmp_path_factory):
    """The working directory of a run of two processes under SLURM that nothing stopped."""
    workdir = tmp_path_factory.mktemp("of_two") / "run"
    first, second = together(runs, workdir, "training.keep_checkpoints=2", slurm=True)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "split" in first.out
    assert "split" not in second.out
    return workdir


def close(record, other):
    """Return whether two records differ by rounding at most."""
    assert record.keys() == other.keys()
    return all(
        (a is None) == (b is None) and (a is None or np.isclose(a, b, rtol=1e-4, atol=1e-5))
        for key, a in record.items()
        for b in [other[key]]
    )


def test_two_processes_record_what_one_does(of_two, uninterrupted):
    here, there = records(of_two), records(uninterrupted)
    assert len(here) == len(there)
    assert all(close(a, b) for a, b in zip(here, there, strict=True))
    assert here[-1]["test/count"] == 150
    assert "test/gauc" in here[-1]
    assert problems((of_two / "report.html").read_text()) == []
    assert json.loads((of_two / "environment.json").read_text())["num_processes"] == 2


@pytest.mark.fault(
    "SIGTERM to one of two processes, then kill -9 of one inside a save, then of the other",
    "both save at one step and exit with 0; where one is killed, the other says so and exits with "
    "1; the same command ends bitwise as if nothing had been",
)
def test_stops_of_one_process(runs, of_two, tmp_path, observe):
    workdir = tmp_path / "run"
    first, second = together(runs, workdir, faults=[NONE, ("save", 4, "SIGTERM")])
    assert (first.code, second.code) == (0, 0), first.err + second.err
    # The wish of step 5 is known to all at step 9.
    assert "stopped and saved at step 9; the same command continues" in first.out
    assert "9" in steps(workdir)

    first, second = together(runs, workdir, faults=[NONE, ("save", 12, "SIGKILL")])
    assert (first.code, second.code) == (1, -9), first.err
    assert first.message == "error: process 1 of 2 was lost"
    assert "resumed from step 9 of 20" in first.out

    first, second = together(runs, workdir, faults=[("log", 15, "SIGKILL")])
    assert first.code == -9
    assert second.code == 1, second.err
    assert second.message == "error: process 0 of 2 was lost"

    assert [outcome.code for outcome in together(runs, workdir)] == [0, 0]
    assert records(workdir) == records(of_two)
    runs.assert_same_run(workdir, of_two)
    observe(second)


def test_a_run_moves_between_devices_and_sees_every_example_once(
    runs, uninterrupted, tmp_path, monkeypatch
):
    workdir, ids = tmp_path / "run", tmp_path / "ids"

    def go_on(fault, *, count, devices):
        outcomes = together(runs, workdir, faults=[fault], ids=ids, count=count, devices=devices)
        assert [outcome.code for outcome in outcomes] == [0] * count, outcomes[0].err
        return outcomes[0].out

    assert "saved at step 3;" in go_on(("log", 3, "SIGTERM"), count=1, devices=1)
    assert "saved at step 9;" in go_on(("log", 5, "SIGTERM"), count=2, devices=4)
    assert "resumed from step 9 of 20" in go_on(NONE, count=1, devices=8)

    seen = [json.loads(line) for line in ids.read_text().splitlines()]
    config = tiny.experiment(runs.data)
    source = training_rows(monkeypatch, config)
    assert seen == [source[step].user_ids.tolist() for step in range(tiny.NUM_STEPS)]
    assert sorted(row for rows in seen for row in rows) == list(range(source.num_examples))
    losses, expected = (
        [record["train/loss"] for record in records(path) if "train/loss" in record]
        for path in (workdir, uninterrupted)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.fault(
    "process 0 of two never starts", "the other gives up after `--start_timeout`, with exit 1"
)
def test_a_process_that_never_starts(runs, tmp_path, monkeypatch, observe):
    monkeypatch.setattr(processes, "START_TIMEOUT", 3)
    command = [str(ROOT / "train.py"), *runs.arguments(tmp_path / "run")]
    alone = processes.start([command], devices=1, count=2, first=1)
    (second,) = finish(alone)
    assert second.code == 1
    where = alone[0].args[-5].removeprefix("--coordinator=")
    assert second.message == (
        f"error: expected all processes within 3 s at {where}: process 0 is not ready there: "
        "[Errno 111] Connection refused"
    )
    assert not (tmp_path / "run").exists()
    observe(Outcome(second.code, "", second.err.replace(where, "HOST:PORT")))


@pytest.mark.slow
@pytest.mark.fault(
    "a wrong mesh or batch size, or an input/output error of one of two processes",
    "every process ends with exit 1 and a line that says why, or who says why",
)
def test_errors(runs, tmp_path, observe):
    first, second = together(runs, tmp_path / "mesh", "mesh.data=3")
    assert (first.code, second.code) == (1, 1)
    assert first.message == second.message
    assert "config.mesh: expected sizes that multiply to the 8 devices" in first.message
    observe(second)

    first, second = together(runs, tmp_path / "batch", "data.batch_size=36")
    assert (first.code, second.code) == (1, 1)
    assert "config.data.batch_size: expected a multiple of 8" in first.message

    first, second = together(runs, tmp_path / "run", faults=[("log", 6, "OSError")])
    assert (first.code, second.code) == (1, 1)
    assert first.message == "error: [Errno 5] Input/output error"
    assert second.message == "error: process 0 of 2 ended with an error, which it says"


@pytest.mark.slow
@pytest.mark.fault(
    "NaN in a row with two processes",
    "both stop at the same step and say where it arose; the first such batch is kept whole",
)
def test_nan(runs, tmp_path, observe):
    workdir = tmp_path / "run"
    poisoned = [("batch", 6, "NaN")] * 2
    first, second = together(runs, workdir, "training.stop_after_skips=3", faults=poisoned)
    assert (first.code, second.code) == (1, 1)
    assert first.message == second.message
    assert "NaN or infinity in 3 steps in a row (6 .. 8); it came in with batch/d" in first.message
    assert steps(workdir) == {"4"}
    batch = load_batch(workdir / "nonfinite" / "step_6" / "batch.npz")
    assert batch.dense.shape[0] == 32
    observe(first)


@pytest.mark.slow
@pytest.mark.fault(
    "a checkpoint that only one of two processes finds damaged",
    "both fall back to the step before, say so, and end bitwise as if nothing had been",
)
def test_damage_to_one_process(runs, of_two, tmp_path, observe):
    workdir = tmp_path / "run"
    shutil.copytree(of_two, workdir)
    first, second = together(runs, workdir, faults=[NONE, ("read", 20, "ValueError")])
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert f"{workdir}/checkpoints/20: process 1: the checksum of the" in first.err
    assert "set aside as" in first.err
    assert "resumed from step 16 of 20" in first.out
    runs.assert_same_run(workdir, of_two)
    observe(first, "warning: .../checkpoints/20: ...; set aside as .../damaged_checkpoints/20")


@pytest.mark.slow
@pytest.mark.fault(
    "kill -9 of one or both of two processes at a random moment, 20 times",
    "who is left says who was lost and exits with 1; 20 of 20 end bitwise as if nothing had been",
)
def test_random_moments(runs, tmp_path, observe_text):
    whole = tmp_path / "whole"
    begun, outcomes = wait_and_finish(start(runs, whole, *OFTEN), whole)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[0].err
    seconds, draw, half = time.monotonic() - begun, random.Random(0), 0
    for trial in range(NUM_TRIALS):
        workdir, victims = tmp_path / str(trial), draw.choice([(0,), (1,), (0, 1)])
        moment = draw.random() * seconds
        _, outcomes = wait_and_finish(start(runs, workdir, *OFTEN), workdir, victims, moment)
        for number, outcome in enumerate(outcomes):
            if number in victims:
                assert outcome.code in (-signal.SIGKILL, 0)  # 0: it was over before
            elif outcome.code:
                assert outcome.code == 1, outcome.err
                assert outcome.message == f"error: process {victims[0]} of 2 was lost"
        half += any((workdir / "checkpoints").glob("*tmp*"))
        assert [outcome.code for outcome in together(runs, workdir, *OFTEN)] == [0, 0]
        assert records(workdir) == records(whole)
        runs.assert_same_run(workdir, whole, *SETTINGS)
    observe_text(f"20 of 20 equal; {half} were killed inside a save")


def wait_and_finish(started, workdir, victims=(), moment=0.0):
    """Kill victims so many seconds after the first record; return when that was, and the ends."""
    record = workdir / "metrics.jsonl"
    while started[0].poll() is None and not (record.exists() and record.stat().st_size):
        time.sleep(0.005)
    begun = time.monotonic()
    if victims:
        time.sleep(moment)
    for victim in victims:
        started[victim].kill()
    return begun, finish(started)
