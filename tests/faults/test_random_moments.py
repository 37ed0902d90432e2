"""Twenty kills and twenty SIGTERMs at random moments of a run that saves all the time.

    python -m pytest tests/faults/test_random_moments.py -m slow

Each of the forty starts anew, is stopped once, and is then run to its end.
"""

import random
import signal
import time

import pytest

from tests.faults.harness import steps

NUM_TRIALS = 20
LONG = "data.num_epochs=5.0"  # 100 steps, a save every second one
OFTEN = "training.checkpoint_every=2"
SETTINGS = (("data.num_epochs", 5.0), ("training.checkpoint_every", 2))


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    """A run that nothing stopped, and the seconds from its first record to its last."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    process = runs.start(workdir, LONG, OFTEN)
    begun = wait_for_record(process, workdir)
    outcome = runs.finish(process)
    assert outcome.code == 0, outcome.err
    return workdir, time.monotonic() - begun


def wait_for_record(process, workdir):
    """Wait until a run has recorded its first step; what comes before is long."""
    record = workdir / "metrics.jsonl"
    while process.poll() is None and not (record.exists() and record.stat().st_size):
        time.sleep(0.005)
    return time.monotonic()


def stop_and_resume(runs, whole, workdir, number, moment):
    """Stop a run at a moment, run it to its end, compare.

    Returns:
        How it was stopped, which checkpoints there were, and whether one was half written.
    """
    expected, seconds = whole
    process = runs.start(workdir, LONG, OFTEN)
    wait_for_record(process, workdir)
    time.sleep(moment * seconds)
    process.send_signal(number)
    outcome = runs.finish(process)
    half = list((workdir / "checkpoints").glob("*tmp*"))
    saved = steps(workdir)
    resumed = runs.here(workdir, LONG, OFTEN)
    assert resumed.code == 0, resumed.err
    runs.assert_same_run(workdir, expected, *SETTINGS)
    return outcome, saved, bool(half)


@pytest.mark.slow
@pytest.mark.fault(
    "kill -9 at a random moment, 20 times", "20 of 20 end bitwise as if nothing had been"
)
def test_kill(runs, whole, tmp_path, observe_text):
    draw, during_a_save = random.Random(0), 0
    for trial in range(NUM_TRIALS):
        outcome, _, half = stop_and_resume(
            runs, whole, tmp_path / str(trial), signal.SIGKILL, draw.random()
        )
        assert outcome.code in (-signal.SIGKILL, 0)  # 0: it was over before
        during_a_save += half
    observe_text(f"20 of 20 equal; {during_a_save} were killed inside a save")


@pytest.mark.slow
@pytest.mark.fault(
    "SIGTERM at a random moment, 20 times",
    "20 of 20 end bitwise as if nothing had been; what comes before the last step's end saves and "
    "exits with 0",
)
def test_sigterm(runs, whole, tmp_path, observe_text):
    draw, stopped = random.Random(1), 0
    for trial in range(NUM_TRIALS):
        outcome, saved, half = stop_and_resume(
            runs, whole, tmp_path / str(trial), signal.SIGTERM, 0.8 * draw.random()
        )
        # Once all is trained and saved, while the report is made, a signal has its usual effect.
        trained = "100" in saved
        assert outcome.code == 0 or (outcome.code == -signal.SIGTERM and trained), outcome.err
        assert not half
        stopped += "stopped and saved at step" in outcome.out
    observe_text(f"20 of 20 equal; {stopped} stopped before their last step")
