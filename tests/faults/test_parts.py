"""Runs on data in four parts: each process has its own shards alone, and the run is the same."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from tests import processes
from tests.faults.harness import ROOT, Outcome, behind_log_line
from tests.faults.recorded import training_rows
from tests.faults.test_processes import NONE, close
from tests.training import tiny
from tests.training.runs import records

PARTS = 4
SETTING = f"data.parts={PARTS}"


def hosts(data, count, place):
    """Return the data directories of so many hosts, each with the shards of its parts alone."""
    manifest = json.loads((data / "dataset.json").read_text())
    found = []
    for number in range(count):
        host = place / f"{number}-of-{count}"
        host.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "dataset.json", host)
        for part in range(number * PARTS // count, (number + 1) * PARTS // count):
            for entry in manifest["files"][part::PARTS]:
                shutil.copy(data / entry["name"], host)
        found.append(host)
    return found


def together(runs, workdir, directories, *, devices, fault=NONE, ids=None, changes=()):
    """Run one process for each directory of data; the first one has the fault."""
    commands = []
    module = ["-m", "tests.faults.program"] if ids is None else ["-m", "tests.faults.recorded", ids]
    for directory, what in zip(directories, [fault, *[NONE] * len(directories)], strict=False):
        flags = runs.arguments(workdir, SETTING, f"data.directory={directory}", *changes)
        commands.append([*module, *what, ROOT / "train.py", *flags])
    started = processes.start([list(map(str, c)) for c in commands], devices=devices)
    return [Outcome(*end) for end in processes.finish(started)]


@pytest.fixture(scope="module")
def of_one(runs, uninterrupted, tmp_path_factory):
    """The working directory of a run of one process that nothing stopped."""
    del uninterrupted  # has built the data set
    workdir = tmp_path_factory.mktemp("of_one") / "run"
    outcome = runs.here(workdir, SETTING)
    assert outcome.code == 0, outcome.err
    assert "4 parts of" in outcome.out
    return workdir


@pytest.fixture
def expected(runs, monkeypatch):
    """Of every step, where its examples are stored in their parts."""
    config = tiny.experiment(runs.data, **{"data.parts": PARTS})
    source = training_rows(monkeypatch, config)
    steps = round(source.epoch_size / source.batch_size)
    assert steps > tiny.NUM_STEPS  # parts of 40 users are uneven
    return [source[step].user_ids.tolist() for step in range(steps)]


def test_a_run_resumes_bitwise(runs, of_one, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        behind_log_line(patch, 7, lambda: os.kill(os.getpid(), signal.SIGTERM))
        outcome = runs.here(workdir, SETTING)
    assert outcome.code == 0, outcome.err
    assert "stopped and saved at step 7" in outcome.out
    assert runs.here(workdir, SETTING).code == 0
    runs.assert_same_run(workdir, of_one, ("data.parts", PARTS))


@pytest.mark.slow
def test_two_processes_with_their_own_shards_do_what_one_does(runs, of_one, tmp_path):
    workdir = tmp_path / "run"
    outcomes = together(runs, workdir, hosts(runs.data, 2, tmp_path / "hosts"), devices=2)
    assert [outcome.code for outcome in outcomes] == [0, 0], [o.err for o in outcomes]
    here, there = records(workdir), records(of_one)
    assert len(here) == len(there)
    assert all(close(a, b) for a, b in zip(here, there, strict=True))
    assert here[-1]["test/count"] == 150


@pytest.mark.slow
def test_a_run_moves_between_numbers_of_processes(runs, of_one, tmp_path, expected):
    workdir, ids = tmp_path / "run", tmp_path / "ids"

    def go_on(count, devices, fault):
        places = hosts(runs.data, count, tmp_path / "hosts")
        outcomes = together(runs, workdir, places, devices=devices, ids=ids, fault=fault)
        assert [outcome.code for outcome in outcomes] == [0] * count, outcomes[0].err
        return outcomes[0].out

    assert "saved at step 3;" in go_on(1, 4, ("log", 3, "SIGTERM"))
    assert "saved at step 9;" in go_on(2, 2, ("log", 5, "SIGTERM"))
    assert f"resumed from step 9 of {len(expected)}" in go_on(4, 1, NONE)
    assert [json.loads(line) for line in ids.read_text().splitlines()] == expected
    losses, wanted = (
        [record["train/loss"] for record in records(path) if "train/loss" in record]
        for path in (workdir, of_one)
    )
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.fault(
    "parts of the data that two processes cannot share, or a shard of one's own that is missing",
    "every process ends with exit 1 and a line that says why, or who says why",
)
def test_errors(runs, of_one, tmp_path, observe):
    del of_one
    places = hosts(runs.data, 2, tmp_path / "hosts")
    first, second = together(runs, tmp_path / "pieces", places, devices=1, changes=["data.parts=3"])
    assert (first.code, second.code) == (1, 1)
    assert first.message == second.message
    assert "config.data.parts: expected a multiple of 2, so that each process" in first.message

    shard = min(places[1].glob("*.arrayrecord"))
    shard.unlink()
    first, second = together(runs, tmp_path / "run", places, devices=1)
    assert (first.code, second.code) == (1, 1)
    assert second.message == f"error: {shard}: missing"
    assert first.message == f"error: process 1: {shard}: missing"
    observe(first)
