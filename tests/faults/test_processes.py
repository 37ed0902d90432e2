"""Runs of two processes with four devices each: stopped, killed, and moved to other devices."""

import json

import numpy as np
import pytest

from kunlun_jax.data import BatchSource
from kunlun_jax.data.gather import Columns
from kunlun_jax.training.run import open_dataset
from tests import processes
from tests.faults.harness import ROOT, Outcome, steps
from tests.faults.recorded import rows_for_users
from tests.training import tiny
from tests.training.runs import records

NONE = ("none", 0, "none")
NUM_TRIALS = 20
OFTEN = ("data.num_epochs=5.0", "training.checkpoint_every=2")


def start(runs, workdir, *changes, count=2, devices=4, faults=(), ids=None):
    """Start the processes of a run.

    Args:
        workdir: Working directory.
        changes: Settings.
        count: Processes.
        devices: Devices of each.
        faults: For each process, point, step and fault as `program.py` takes them.
        ids: File for the examples of every step.
    """
    module = ["-m", "tests.faults.program"] if ids is None else ["-m", "tests.faults.recorded", ids]
    arguments = [str(ROOT / "train.py"), *runs.arguments(workdir, *changes)]
    faults = [*faults, *[NONE] * (count - len(faults))]
    commands = [[*map(str, [*module, *fault]), *arguments] for fault in faults]
    return processes.start(commands, devices=devices)


def finish(started):
    return [Outcome(*end) for end in processes.finish(started)]


def together(runs, workdir, *changes, **options):
    return finish(start(runs, workdir, *changes, **options))


@pytest.fixture(scope="module")
def of_two(runs, tmp_path_factory):
    """The working directory of a run of two processes that nothing stopped."""
    workdir = tmp_path_factory.mktemp("of_two") / "run"
    first, second = together(runs, workdir, "training.keep_checkpoints=2")
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

    assert "saved at step 3;" in go_on(("log", 3, "SIGTERM"), count=1, devices=8)
    assert "saved at step 9;" in go_on(("log", 5, "SIGTERM"), count=2, devices=4)
    assert "saved at step 13;" in go_on(("log", 13, "SIGTERM"), count=1, devices=1)
    assert "resumed from step 13 of 20" in go_on(NONE, count=2, devices=4)

    seen = [json.loads(line) for line in ids.read_text().splitlines()]
    config = tiny.experiment(runs.data)
    monkeypatch.setattr(Columns, "batch", rows_for_users(Columns.batch))
    source = BatchSource(
        open_dataset(config.data),
        split="train",
        batch_size=config.data.batch_size,
        max_lens={},
        seed=config.data.seed,
    )
    assert seen == [source[step].user_ids.tolist() for step in range(tiny.NUM_STEPS)]
    assert sorted(row for rows in seen for row in rows) == list(range(source.num_examples))
    losses, expected = (
        [record["train/loss"] for record in records(place) if "train/loss" in record]
        for place in (workdir, uninterrupted)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.fault(
    "one of two processes never starts", "the other gives up after `--start_timeout`, with exit 1"
)
def test_a_process_that_never_starts(runs, tmp_path, monkeypatch, observe):
    monkeypatch.setattr(processes, "START_TIMEOUT", 5)
    (process,) = start(runs, tmp_path / "run")[1:]
    (second,) = finish([process])
    assert second.code == 1
    assert second.message.startswith("error: expected all processes within 5 s at 127.0.0.1:")
    assert not (tmp_path / "run").exists()
    observe(second)
