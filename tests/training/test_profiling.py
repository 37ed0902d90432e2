"""A trace of some steps: of these alone, and the run stays what it was."""

import re

import jax
import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.training.profiling import Window, profiled
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import open_workdir
from tests.training import tiny
from tests.training.runs import records


def traced_steps(directory):
    """Return the numbers of the steps that a trace has, in their order."""
    (file,) = directory.rglob("*.xplane.pb")
    found = set()
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                if event.name == "train":
                    found |= {value for key, value in event.stats if key == "step_num"}
    return sorted(found)


def test_the_steps_of_the_window_are_traced_and_no_number_changes(finished_runs, tmp_path, capsys):
    config = tiny.experiment(finished_runs[0].parent / "data", **{"model.name": "din"})
    with open_workdir(tmp_path / "run", config) as workdir, open_run(config, workdir) as run:
        state = run.resume_or_initialize()
        with profiled(run.train_step(), Window(3, 5), workdir, taken=0, num_steps=20) as step:
            run_loop(run, state, step)
    assert traced_steps(tmp_path / "run" / "profile") == [3, 4, 5]
    assert f"profile: steps 3 to 5: {tmp_path / 'run' / 'profile'}" in capsys.readouterr().out
    assert records(tmp_path / "run") == records(finished_runs[0])[:-1]  # but for the final report


def counted(workdir, *window, taken=0):
    """A step that counts, of a run of 20 steps."""
    return profiled(
        lambda state, batch: state + batch, Window(*window), workdir, taken=taken, num_steps=20
    )


def test_a_run_that_stops_within_the_window_leaves_what_there_is(tmp_path, capsys):
    with counted(tmp_path, 2, 9) as step:
        assert step(step(step(0, 1), 1), 1) == 3
    assert traced_steps(tmp_path / "profile") == [2, 3]
    assert "profile: steps 2 to 3" in capsys.readouterr().out


def test_a_trace_that_cannot_be_made_is_a_warning(tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("another\nprofiler is on")

    monkeypatch.setattr(jax.profiler, "start_trace", fail)
    with counted(tmp_path, 1, 2) as step:
        assert step(step(0, 1), 1) == 2
    assert re.fullmatch(
        r"warning: .*/profile: no trace: RuntimeError: another profiler is on\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    "text", ["", "3", "3:", ":5", "5:3", "0:3", "-1:3", "3:5:7", "a:b", "3.5:4", "٣:٥", "1" * 12]
)
def test_a_bad_window_is_one_line(text):
    with pytest.raises(ConfigError, match=r"^--profile_steps: expected START:STOP, ") as raised:
        Window.of(text)
    assert "\n" not in str(raised.value)


def test_a_window_is_read():
    assert Window.of("101:110") == Window(101, 110)
    assert Window.of("7:7") == Window(7, 7)
    assert Window.of(None) is None


@pytest.mark.parametrize("window", [(4, 9), (15, 21), (21, 30)])
def test_steps_that_are_not_to_come_are_refused(tmp_path, window):
    message = (
        f"--profile_steps: expected steps that are still to be taken, 6 .. 20, got '{window[0]}:"
    )
    with (
        pytest.raises(ConfigError, match=re.escape(message)),
        counted(tmp_path, *window, taken=5),
    ):
        pass
    assert not (tmp_path / "profile").exists()
