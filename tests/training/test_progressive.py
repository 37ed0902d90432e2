"""Days in order, each evaluated before training on it."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from kunlun_jax.config import ConfigError
from kunlun_jax.training.progressive import progressive_summary
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.step import apply_model
from kunlun_jax.training.workdir import MetricWriter, open_workdir
from tests.training import tiny
from tests.training.runs import assert_equal_states, records

HOURS = 24.0 * 30
SETTINGS = {"model.name": "din", "data.period_hours": HOURS, "data.max_eval_examples": 0}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return tiny.experiment(tmp_path_factory.mktemp("data") / "tiny", **SETTINGS)


def train(workdir, config):
    """Do what train.py does; returns the state and whether it is complete."""
    with open_workdir(workdir, config), open_run(config, workdir) as run:
        state, complete = run_loop(run, run.resume_or_initialize(), run.train_step())
        if complete:
            report_best(run, state)
        return state, complete


def progressive(workdir):
    return [line for line in records(workdir) if "progressive/period" in line]


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, train(workdir, config)[0]


def expected(config, workdir):
    """By first second of a period: step, examples, NE and AUC, from a loop that is read at once."""
    found = {}
    with open_run(config, workdir) as run:
        examples = run.data.dataset.splits["train"]
        days = examples.request_times // int(HOURS * 3600)
        rate = run.data.label_rates[0]
        entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate)
        counts = {int(day): int((days == day).sum()) for day in np.unique(days)}
        first, begins = 0, {}
        for day in sorted(counts):
            begins[day], first = first // config.data.batch_size + 1, first + counts[day]
        whole = run.data._batches("train", len(days), 0, None)[0]  # every one, period by period
        ordered, whole = np.sort(days), jax.tree.map(jnp.asarray, whole)
        predict = jax.jit(lambda p, t, batch: apply_model(run.model, p, t, batch))
        state, step = run.resume_or_initialize(), run.train_step()
        for number in range(1, run.num_steps + 1):
            for day in [day for day, begin in begins.items() if begin == number]:
                own = ordered == day
                logits = np.asarray(predict(state.params, state.tables, whole))[own, 0]
                p = 1 / (1 + np.exp(-logits.astype(np.float64)))
                labels = np.asarray(whole.labels)[own, 0]
                found[day * HOURS * 3600] = (
                    number,
                    counts[day],
                    log_loss(labels, p, labels=[0, 1]) / entropy,
                    roc_auc_score(labels, p) if 0 < labels.mean() < 1 else None,
                )
            state = step(state, run.train_batches[number - 1])
    return found


def test_every_period_is_evaluated_before_it_is_trained_on(config, finished, tmp_path):
    lines = {line["progressive/period"]: line for line in progressive(finished[0])}
    wanted = expected(config, tmp_path)
    assert len(wanted) > 3
    assert list(lines) == list(wanted)
    for period, (step, count, entropy, auc) in wanted.items():
        line = lines[period]
        assert (line["step"], line["progressive/examples"]) == (step, count)
        assert line["progressive/normalized_entropy"] == pytest.approx(entropy, rel=1e-4)
        assert line["progressive/auc_roc"] == (auc and pytest.approx(auc, abs=1e-5))


def test_the_table_has_every_period_and_their_mean(finished):
    lines = progressive(finished[0])
    header, _, *rows, last = progressive_summary(finished[0]).splitlines()
    assert header.split()[:3] == ["period", "from", "(UTC)"]
    assert len(rows) == len(lines)
    total = sum(line["progressive/weight"] for line in lines)
    key = "progressive/normalized_entropy"
    mean = sum(line["progressive/weight"] * line[key] for line in lines) / total
    assert last.split()[:3] == ["all", f"{total:,.0f}", f"{mean:.5f}"]


def test_no_table_without_periods(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert progressive_summary(tmp_path) == ""


@pytest.mark.parametrize("boundary", [True, False])
def test_resumed_it_is_bitwise_equal(config, finished, tmp_path, monkeypatch, boundary):
    """Also where it is stopped right before a period, and after a period was evaluated."""
    begins = {line["step"] for line in progressive(finished[0])}
    steps = range(3, tiny.NUM_STEPS - 2)
    stop = next(s for s in steps if (s + 1 in begins) == boundary)
    write = MetricWriter.write

    def write_and_terminate(self, at, metrics):
        write(self, at, metrics)
        if at == stop and "train/loss" in metrics:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricWriter, "write", write_and_terminate)
        state, complete = train(tmp_path / "run", config)
    assert (int(state.step), complete) == (stop, False)
    state, complete = train(tmp_path / "run", config)
    assert complete
    assert_equal_states(state, finished[1])
    assert records(tmp_path / "run") == records(finished[0])


def test_killed_between_a_periods_evaluation_and_its_step(config, finished, tmp_path, monkeypatch):
    evaluated, write = [], MetricWriter.write

    class Killed(BaseException):
        pass

    def write_and_die(self, at, metrics):
        write(self, at, metrics)
        if "progressive/period" in metrics:
            evaluated.append(at)
            if len(evaluated) == 3:
                raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MetricWriter, "write", write_and_die)
        train(tmp_path / "run", config)
    state, complete = train(tmp_path / "run", config)
    assert complete
    assert_equal_states(state, finished[1])
    assert records(tmp_path / "run") == records(finished[0])


def test_periods_are_of_data_in_one_part(config, tmp_path):
    wrong = tiny.experiment(config.data.directory, **SETTINGS, **{"data.parts": 2})
    with pytest.raises(ConfigError, match=r"period_hours: expected config\.data\.parts = 1"):
        open_run(wrong, tmp_path)


@pytest.mark.parametrize("other", [{"data.num_epochs": 2.0}, {"data.shuffle_window": 2048}])
def test_periods_meet_neither_epochs_nor_windows(config, tmp_path, other):
    wrong = tiny.experiment(config.data.directory, **SETTINGS, **other)
    with pytest.raises(ConfigError, match=r"period_hours: expected one epoch at most"):
        open_run(wrong, tmp_path)
