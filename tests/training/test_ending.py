"""Where a run ends: by its patience, and later than it was meant to."""

import os
import signal

import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.training.checkpoint import CheckpointError
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import MetricWriter, WorkdirError, open_workdir
from tests.training import tiny
from tests.training.runs import assert_equal_states, records

# At this rate the second evaluation is worse than the first, and none after it is better.
WORSE = {
    "model.name": "din",
    "optimizer.learning_rate": 0.5,
    "optimizer.table_learning_rate": 3.0,
    "optimizer.warmup_steps": 0,
    "training.eval_every": 2,
}

CONSTANT = {"model.name": "din", "optimizer.schedule": "constant"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "tiny"


def train(workdir, config):
    """Do what train.py does; returns the state, and the report or None."""
    with open_workdir(workdir, config), open_run(config, workdir) as run:
        state, complete = run_loop(run, run.resume_or_initialize(), run.train_step())
        return state, report_best(run, state) if complete else None


def entropies(workdir):
    """Validation NE by step, without the final report."""
    lines = [x for x in records(workdir) if "val/normalized_entropy" in x and "best/step" not in x]
    return {x["step"]: x["val/normalized_entropy"] for x in lines}


def end_by_hand(found, patience):
    """Return the evaluation at which so many in a row were no better than the best before."""
    best, since = float("inf"), 0
    for step, value in found.items():
        best, since = (value, 0) if value < best else (best, since + 1)
        if since == patience:
            return step
    return None


class TestPatience:
    @pytest.fixture(scope="class", params=[1, 3])
    @classmethod
    def patience(cls, request):
        return request.param

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, data, tmp_path_factory):
        workdir = tmp_path_factory.mktemp("whole") / "run"
        train(workdir, tiny.experiment(data, **WORSE))
        return entropies(workdir)

    def test_it_ends_where_one_would_by_hand(self, tmp_path, data, whole, patience, capsys):
        end = end_by_hand(whole, patience)
        assert end is not None
        assert end < tiny.NUM_STEPS
        config = tiny.experiment(data, **WORSE, **{"training.patience": patience})
        state, report = train(tmp_path / "run", config)
        assert int(state.step) == end
        assert entropies(tmp_path / "run") == {s: x for s, x in whole.items() if s <= end}
        assert f"ended at step {end} of 20: no better validation NE in {patience} evaluations" in (
            capsys.readouterr().out
        )
        again, same = train(tmp_path / "run", config)  # nothing is left to do but the report
        assert same == report
        assert_equal_states(again, state)
        with open_finished(tmp_path / "run") as (_, best):
            assert f"best checkpoint: step {int(best.step)}" in report

    def test_stopped_on_the_way_it_ends_at_the_same_step(self, tmp_path, data, whole, monkeypatch):
        end, write = end_by_hand(whole, 3), MetricWriter.write

        def write_and_terminate(self, at, metrics):
            write(self, at, metrics)
            if at == end - 1:
                os.kill(os.getpid(), signal.SIGTERM)

        config = tiny.experiment(data, **WORSE, **{"training.patience": 3})
        with monkeypatch.context() as patch:
            patch.setattr(MetricWriter, "write", write_and_terminate)
            state, report = train(tmp_path / "run", config)
        assert (int(state.step), report) == (end - 1, None)
        with (
            pytest.raises(CheckpointError, match="expected a finished run"),
            open_finished(tmp_path / "run"),
        ):
            pass
        state, report = train(tmp_path / "run", config)
        assert int(state.step) == end
        assert report is not None

    def test_with_more_patience_it_goes_on(self, tmp_path, data, whole):
        train(tmp_path / "run", tiny.experiment(data, **WORSE, **{"training.patience": 1}))
        state, _ = train(tmp_path / "run", tiny.experiment(data, **WORSE))
        assert int(state.step) == tiny.NUM_STEPS
        assert entropies(tmp_path / "run") == whole


class TestMoreEpochs:
    def test_an_extended_run_is_the_longer_one(self, tmp_path, data):
        short = tiny.experiment(data, **CONSTANT, **{"data.num_epochs": 0.35})
        whole = tiny.experiment(data, **CONSTANT)
        state, report = train(tmp_path / "extended", short)
        assert int(state.step) == 7
        extended, _ = train(tmp_path / "extended", whole)
        expected, _ = train(tmp_path / "whole", whole)
        assert report is not None
        weights = [(s.params, s.tables, s.opt_state, s.accumulators) for s in (extended, expected)]
        assert_equal_states(*weights)
        # It was evaluated once more, where it had its end.
        found, steps = entropies(tmp_path / "extended"), entropies(tmp_path / "whole")
        assert found.pop(7) > 0
        assert found == steps
        assert next(x for x in records(tmp_path / "extended") if "best/step" in x)["step"] == 20

    def test_it_does_not_become_shorter_than_it_is(self, tmp_path, data):
        train(tmp_path / "run", tiny.experiment(data, **CONSTANT, **{"data.num_epochs": 0.5}))
        before = (tmp_path / "run" / "config.json").read_bytes()
        shorter = tiny.experiment(data, **CONSTANT, **{"data.num_epochs": 0.25})
        message = r"num_epochs: expected at least the 10 steps .* has taken, got 5"
        with pytest.raises(ConfigError, match=message):
            train(tmp_path / "run", shorter)
        assert (tmp_path / "run" / "config.json").read_bytes() == before

    def test_a_schedule_that_knows_its_end_refuses(self, tmp_path, data):
        config = {"model.name": "din"}
        train(tmp_path / "run", tiny.experiment(data, **config, **{"data.num_epochs": 0.25}))
        with pytest.raises(WorkdirError, match=r"num_epochs = 0\.25, got 1\.0; choose another"):
            train(tmp_path / "run", tiny.experiment(data, **config))
