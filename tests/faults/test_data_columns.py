"""The file of columns is damaged, before a run or under it: the run ends, and the data stay."""

import os
import shutil

import pytest

from tests.faults.harness import behind_log_line, flip_bit, steps


@pytest.fixture
def data(runs, uninterrupted, tmp_path):
    """A data set of one's own, with its columns: the uninterrupted run has made them."""
    shutil.copytree(runs.data, tmp_path / "data")
    return tmp_path / "data"


def columns_of(data):
    (path,) = data.glob("columns-*.bin")
    return path


def overwrite(path):
    """Change bytes of a file where it is, as no program of ours does."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(64)))


@pytest.mark.fault(
    "columns: a flipped bit",
    "found by a checksum behind the first steps, before anything is saved; the same command makes "
    "them anew from the shards, and ends bitwise as if nothing had been",
)
def test_a_flipped_bit(runs, uninterrupted, data, tmp_path, observe):
    flip_bit(columns_of(data), 8)
    outcome = runs.here(tmp_path / "run", f"data.directory={data}")
    assert outcome.code == 1
    assert "column 'users': damaged: expected SHA-256" in outcome.message
    assert not steps(tmp_path / "run")
    again = runs.here(tmp_path / "run", f"data.directory={data}")
    assert again.code == 0
    assert "made anew from the shards" in again.err
    runs.assert_same_run(tmp_path / "run", uninterrupted)
    observe(outcome)


@pytest.mark.parametrize("cut", [0, 100_000])
@pytest.mark.fault(
    "columns: a file that is cut off or missing",
    "made anew from the shards, with a warning; the run is bitwise the same",
)
def test_an_incomplete_file(runs, uninterrupted, data, tmp_path, cut, observe):
    path = columns_of(data)
    if cut:
        os.truncate(path, path.stat().st_size - cut)
    else:
        path.unlink()
    outcome = runs.here(tmp_path / "run", f"data.directory={data}")
    assert outcome.code == 0
    (warning,) = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    runs.assert_same_run(tmp_path / "run", uninterrupted)
    observe(outcome, warning.replace(path.stem, "columns-..."))


@pytest.mark.fault(
    "columns: bytes that change under a running process",
    "ends before the next save; the same command makes them anew, goes on from the last checkpoint "
    "and ends bitwise as if nothing had been",
)
def test_a_change_under_a_run(runs, uninterrupted, data, tmp_path, monkeypatch, observe):
    with monkeypatch.context() as patch:
        behind_log_line(patch, 6, lambda: overwrite(columns_of(data)))
        outcome = runs.here(tmp_path / "run", f"data.directory={data}")
    assert outcome.code == 1
    assert "changed while it was in use" in outcome.message
    assert steps(tmp_path / "run") == {"4"}
    again = runs.here(tmp_path / "run", f"data.directory={data}")
    assert again.code == 0, again.err
    assert "resumed from step 4 of 20" in again.out
    runs.assert_same_run(tmp_path / "run", uninterrupted)
    observe(outcome)


@pytest.mark.fault(
    "columns: a file that is cut off under a running process",
    "the system ends the process (SIGBUS), or the next save refuses; the same command goes on "
    "likewise",
)
def test_a_cut_under_a_run(runs, uninterrupted, data, tmp_path, observe):
    process = runs.start(tmp_path / "run", f"data.directory={data}", fault=("log", 6, "SIGSTOP"))
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.truncate(columns_of(data), 0)
    process.send_signal(18)  # SIGCONT
    outcome = runs.finish(process)
    assert outcome.code in (-7, 1), outcome.err
    # The end may have come in the middle of the save of step 4; nothing later is saved.
    (saved,) = steps(tmp_path / "run")
    assert saved.split(".")[0] == "4"
    again = runs.here(tmp_path / "run", f"data.directory={data}")
    assert again.code == 0, again.err
    runs.assert_same_run(tmp_path / "run", uninterrupted)
    observe(outcome)


@pytest.mark.fault(
    "a shard that changes, or goes, under a running process",
    "not read, so not noticed: the run ends as if nothing had been; the next one refuses the shard",
)
def test_a_shard_that_goes_under_a_run(runs, uninterrupted, data, tmp_path, monkeypatch, observe):
    first, second, *_ = sorted(data.glob("*.arrayrecord"))

    def damage():
        first.unlink()
        overwrite(second)

    with monkeypatch.context() as patch:
        behind_log_line(patch, 6, damage)
        outcome = runs.here(tmp_path / "run", f"data.directory={data}")
    assert outcome.code == 0
    runs.assert_same_run(tmp_path / "run", uninterrupted)
    again = runs.here(tmp_path / "other", f"data.directory={data}")
    assert again.code == 1
    assert f"{first.name}: missing" in again.message
    observe(outcome, "steps of the uninterrupted run")
