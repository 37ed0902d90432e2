"""Disks that are full or read-only, for real: a small tmpfs in a mount namespace of its own."""

import functools
import subprocess

import pytest

# Mounts a tmpfs, runs a command, and keeps a copy of the run that lies there.
ON_SMALL_DISK = """
size=$0 disk=$1 kept=$2; shift 2
mount -t tmpfs -o size="$size" tmpfs "$disk" && mkdir "$disk/run" || exit 99
if [ "$PREPARE" = readonly ]; then mount -o remount,ro "$disk"; fi
"$@"; code=$?
cp -r "$disk/run" "$kept"
exit $code
"""


@functools.cache
def namespaces_work():
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not namespaces_work(), reason="nobody may mount a tmpfs in a user namespace here"
)


@pytest.fixture
def on_small_disk(runs, uninterrupted, tmp_path):
    """Run on a disk of some size; return the outcome and a copy of what was left."""

    def run(size, *changes, fault=("none", 0, "none"), prepare="nothing"):
        disk, kept = tmp_path / "disk", tmp_path / "kept"
        disk.mkdir()
        shell = ["env", f"PREPARE={prepare}", "bash", "-c", ON_SMALL_DISK]
        within = ["unshare", "-rm", *shell, size, str(disk), str(kept)]
        outcome = runs.elsewhere(disk / "run", *changes, fault=fault, within=within)
        assert outcome.code != 99, outcome.err
        return outcome, kept

    return run


@pytest.mark.slow
@pytest.mark.fault("a disk too full to begin", "refused before the first step")
def test_full_before(on_small_disk, observe):
    outcome, kept = on_small_disk("600k")
    assert outcome.code == 1
    assert "expected room for 3 checkpoints of" in outcome.message
    assert not (kept / "metrics.jsonl").exists()
    observe(outcome)


@pytest.mark.fault(
    "the disk full at the last save, that of a SIGTERM",
    "exit 1, not 'stopped and saved'; with room, the same command goes on from the checkpoint "
    "before and ends bitwise as if nothing had been",
)
def test_full_at_the_last_save(runs, uninterrupted, on_small_disk, observe):
    outcome, kept = on_small_disk("16m", "training.log_every=7", fault=("log", 7, "fill,SIGTERM"))
    assert outcome.code == 1
    assert "stopped and saved" not in outcome.out
    assert "run/checkpoints: cannot be saved: " in outcome.message
    assert "No space left on device" in outcome.message
    resumed = runs.here(kept, "training.log_every=7")
    assert resumed.code == 0
    runs.assert_same_run(kept, uninterrupted, metrics=False)
    observe(outcome)


@pytest.mark.slow
@pytest.mark.fault(
    "the disk full at the save of the last step",
    "exit 1, and no report: with room, the same command goes on from the checkpoint before",
)
def test_full_at_the_last_step(runs, uninterrupted, on_small_disk, observe):
    outcome, kept = on_small_disk("16m", fault=("saving", 20, "fill"))
    assert outcome.code == 1
    assert "best checkpoint" not in outcome.out
    assert "run/checkpoints: cannot be saved: " in outcome.message
    assert "No space left on device" in outcome.message
    resumed = runs.here(kept)
    assert resumed.code == 0
    assert "resumed from step 16 of 20" in resumed.out
    runs.assert_same_run(kept, uninterrupted)
    observe(outcome)


@pytest.mark.slow
@pytest.mark.fault(
    "the disk fills up during a run", "ends with exit 1 and says where; resumes likewise"
)
def test_full_during(runs, uninterrupted, on_small_disk, observe):
    outcome, kept = on_small_disk("16m", fault=("log", 9, "fill"))
    assert outcome.code == 1
    assert "No space left on device" in outcome.message  # at the record or at a save, as it comes
    runs.assert_goes_on(kept, uninterrupted)
    observe(outcome)


@pytest.mark.slow
@pytest.mark.fault("a read-only workdir", "refused before the first step")
def test_read_only(on_small_disk, observe):
    outcome, kept = on_small_disk("16m", prepare="readonly")
    assert outcome.code == 1
    assert "cannot be used as workdir: [Errno 30] Read-only file system" in outcome.message
    assert list(kept.iterdir()) == []
    observe(outcome)
