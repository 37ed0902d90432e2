import contextlib
import dataclasses
import itertools
import json
import math
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import DataConfig, ExperimentConfig, MeshConfig, TrainingConfig
from kunlun_jax.data import BatchSource, make_train_iterator
from kunlun_jax.hosts.stopping import StopSignal
from kunlun_jax.sharding import make_mesh
from kunlun_jax.training.checkpoint import Checkpoints
from kunlun_jax.training.evaluation import Evaluator
from kunlun_jax.training.goodput import ACTIVITIES, Goodput
from kunlun_jax.training.loop import NonFiniteError, Trainer
from kunlun_jax.training.workdir import MetricWriter
from tests.data import toy
from tests.training import linear
from tests.training.runs import assert_equal_states, records

NUM_STEPS = 12
BATCH_SIZE = 16
CADENCE = TrainingConfig(
    log_every=3,
    eval_every=5,
    checkpoint_every=4,
    keep_checkpoints=2,
    stop_after_skips=linear.STOP_AFTER_SKIPS,
)
STEP = jax.jit(linear.train_step, donate_argnums=0)


class Killed(BaseException):
    """Stands for SIGKILL, as far as one process can."""


@pytest.fixture(scope="module")
def train(dataset):
    """Start, or go on with, the run of a working directory, as train.py does."""
    evaluator = Evaluator(
        linear.eval_step,
        make_mesh(MeshConfig()),
        label_rates=[0.35, 0.15],
        tasks=dataset.schema.labels,
    )

    def batches(split):
        return BatchSource(
            dataset,
            split=split,
            batch_size=BATCH_SIZE,
            max_lens=toy.MAX_LENS,
            shuffle=split == "train",
        )

    def train(workdir, *, train_step=STEP, cadence=CADENCE, deadline=math.inf):
        checkpoints = Checkpoints(workdir / "checkpoints", keep=2, identity={})
        data, state = make_train_iterator(batches("train")), linear.initial_state()
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(checkpoints.latest_step, state, data)
        writer = MetricWriter(workdir, from_step=int(state.step))
        trainer = Trainer(
            config=ExperimentConfig(data=DataConfig(batch_size=BATCH_SIZE), training=cadence),
            train_step=train_step,
            data=data,
            mesh=make_mesh(MeshConfig()),
            validation=batches("validation"),
            evaluator=evaluator,
            checkpoints=checkpoints,
            writer=writer,
            num_steps=NUM_STEPS,
            diagnose=lambda state: f"diagnosed at step {int(state.step)}",
            goodput=Goodput(flops_per_example=10, ceiling=1e9),
            deadline=deadline,
        )
        with contextlib.closing(checkpoints), contextlib.closing(writer):
            return trainer.run(state)

    return train


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    state, complete = train(workdir)
    assert complete
    return state, records(workdir)


def stop_at(step, how):
    """Return the train step that kills the run, or asks it to stop, before it returns."""

    def train_step(state, batch):
        state = STEP(state, batch)
        if int(state.step) == step:
            how()
        return state

    return train_step


def kill():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


class TestRun:
    def test_trains_to_the_last_step(self, uninterrupted):
        state, lines = uninterrupted
        assert int(state.step) == NUM_STEPS
        train = [line["step"] for line in lines if "train/loss" in line]
        validation = [line["step"] for line in lines if "val/normalized_entropy" in line]
        assert (train, validation) == ([3, 6, 9, 12], [5, 10, 12])

    def test_learns(self, uninterrupted):
        _, lines = uninterrupted
        entropies = [x["val/normalized_entropy"] for x in lines if "val/normalized_entropy" in x]
        assert entropies[-1] < entropies[0]

    def test_the_loss_is_the_mean_over_tasks(self, uninterrupted):
        _, lines = uninterrupted
        for line in (line for line in lines if "train/loss" in line):
            losses = [line[f"train/{task}/log_loss"] for task in toy.SCHEMA.labels]
            assert line["train/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-12)
            assert line["train/out_of_vocabulary_rate"] == 0.0
            assert line["train/gradient_norm"] > 0.0

    def test_a_rate_is_of_the_steps_since_the_last_evaluation(self, train, tmp_path, monkeypatch):
        """Its time is forgotten there, so the examples of before it must not count."""
        laps, lap = [], Goodput.lap

        def noted(self, num_examples):
            laps.append(num_examples // BATCH_SIZE)
            return lap(self, num_examples)

        monkeypatch.setattr(Goodput, "lap", noted)
        train(tmp_path)
        assert laps == [3, 1, 3, 2]  # logged at 3, 6, 9, 12; evaluated at 5 and 10

    def test_a_rate_is_of_steps_that_were_taken(self, train, tmp_path, monkeypatch):
        """Steps are dispatched ahead of the devices: a lap waits for the last of its own."""

        @jax.jit
        def slow_step(state, batch):
            state = linear.train_step(state, batch)
            matrix = jnp.full((256, 256), state.step * 1e-9)
            matrix = jax.lax.fori_loop(0, 200, lambda _, x: x @ x, matrix)
            return state.replace(step=state.step + matrix[0, 0].astype(int))

        asked, ready, lap = [], [], Goodput.lap

        def noted_step(state, batch):
            asked.append(slow_step(state, batch))
            return asked[-1]

        def noted_lap(self, num_examples):
            ready.append(asked[-1].step.is_ready())
            return lap(self, num_examples)

        monkeypatch.setattr(Goodput, "lap", noted_lap)
        train(tmp_path, train_step=noted_step)
        assert ready == [True] * 4

    def test_a_log_line_covers_the_steps_since_the_last(self, uninterrupted):
        _, lines = uninterrupted
        counts = [line["train/click/count"] for line in lines if "train/loss" in line]
        assert counts == [3 * BATCH_SIZE] * 4

    def test_a_log_line_tells_where_the_time_went(self, train, tmp_path):
        train(tmp_path)
        lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        for line in (line for line in lines if "train/loss" in line):
            shares = [line[f"time/{activity}"] for activity in ("step", *ACTIVITIES)]
            assert sum(shares) == pytest.approx(1.0)
            assert min(shares) >= 0.0
            assert line["train/mfu"] * 1e9 == pytest.approx(30 * line["train/examples_per_second"])

    def test_shows_progress(self, train, tmp_path, capfd):
        train(tmp_path)
        shown = capfd.readouterr().err
        assert "loss=" in shown
        assert "NE=" in shown
        assert "MFU=" in shown
        assert "ex/s" in shown

    def test_a_complete_run_is_left_alone(self, train, tmp_path, uninterrupted):
        train(tmp_path)
        state, complete = train(tmp_path, train_step=stop_at(1, kill))
        assert complete
        assert_equal_states(state, uninterrupted[0])
        assert records(tmp_path) == uninterrupted[1]


class TestResume:
    # Before any checkpoint; at one; between two; at an evaluation; after it; at the last step.
    @pytest.mark.parametrize("step", [1, 4, 6, 10, 11, 12])
    def test_after_a_kill_is_bitwise_equal(self, train, tmp_path, uninterrupted, step):
        with pytest.raises(Killed):
            train(tmp_path, train_step=stop_at(step, kill))
        state, complete = train(tmp_path)
        assert complete
        assert_equal_states(state, uninterrupted[0])
        assert records(tmp_path) == uninterrupted[1]

    @pytest.mark.parametrize("step", [1, 4, 5, 7])
    def test_after_sigterm_is_bitwise_equal(self, train, tmp_path, uninterrupted, step):
        state, complete = train(tmp_path, train_step=stop_at(step, terminate))
        assert not complete
        assert int(state.step) == step  # and it is saved: the next start goes on from there
        state, complete = train(tmp_path, train_step=stop_at(step, kill))
        assert complete
        assert_equal_states(state, uninterrupted[0])
        assert records(tmp_path) == uninterrupted[1]

    def test_after_its_deadline_is_bitwise_equal(self, train, tmp_path, uninterrupted):
        for step in range(1, NUM_STEPS):
            state, complete = train(tmp_path, deadline=time.monotonic())
            assert (int(state.step), complete) == (step, False)
        state, complete = train(tmp_path, deadline=time.monotonic())
        assert complete  # the last step has nothing after it to stop for
        assert_equal_states(state, uninterrupted[0])

    def test_after_many_stops_is_bitwise_equal(self, train, tmp_path, uninterrupted):
        for step, how in ((2, kill), (3, terminate), (6, kill), (7, terminate), (9, kill)):
            with contextlib.suppress(Killed):
                train(tmp_path, train_step=stop_at(step, how))
        state, _ = train(tmp_path)
        assert_equal_states(state, uninterrupted[0])
        assert records(tmp_path) == uninterrupted[1]

    def test_sigterm_at_the_last_step_completes(self, train, tmp_path):
        _, complete = train(tmp_path, train_step=stop_at(NUM_STEPS, terminate))
        assert complete


class TestStopSignal:
    def test_remembers_the_first_and_lets_the_second_through(self):
        before = signal.getsignal(signal.SIGTERM)
        with StopSignal() as stop:
            assert not stop.received
            terminate()
            assert stop.received
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == before

    def test_an_interrupt_too(self):
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.received


def poisoned(*steps):
    """Return the train step to which the batches of some steps are NaN."""
    taken = itertools.count(1)

    def train_step(state, batch):
        if next(taken) in steps:
            batch = batch.replace(dense=np.full_like(batch.dense, np.nan))
        return STEP(state, batch)

    return train_step


class TestNumericalGuard:
    def test_skips_counts_and_goes_on(self, train, tmp_path):
        state, complete = train(tmp_path, train_step=poisoned(2, 3, 7))
        assert complete
        assert (int(state.guard.skipped), int(state.guard.in_row)) == (3, 0)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        skipped = [x["train/skipped_updates"] for x in records(tmp_path) if "train/loss" in x]
        assert skipped == [2, 2, 3, 3]

    # Given up at step 4: seen at the log line of 6, or at the checkpoint of 4 before it is written.
    @pytest.mark.parametrize(("steps", "newest"), [((2, 3, 4), None), ((6, 7, 8), 5)])
    def test_stops_after_too_many_in_a_row(self, train, tmp_path, steps, newest):
        message = (
            rf"step {steps[-1]}: expected a finite loss .*in 3 steps in a row \({steps[0]} \.\. "
            rf"{steps[-1]}\); diagnosed at step {steps[-1]}; .* of step {newest}"
        )
        with pytest.raises(NonFiniteError, match=message):
            train(tmp_path, train_step=poisoned(*steps))
        saved = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
        assert str(steps[-1]) not in saved

    def test_once_it_has_given_up_sound_batches_change_nothing(self, train, tmp_path):
        late = dataclasses.replace(CADENCE, log_every=12, eval_every=12, checkpoint_every=12)
        with pytest.raises(NonFiniteError, match=r"step 4: .* \(2 \.\. 4\); diagnosed at step 4"):
            train(tmp_path, train_step=poisoned(2, 3, 4), cadence=late)
        assert records(tmp_path) == []

    def test_a_resumed_run_counts_on(self, train, tmp_path):
        step = poisoned(3, 4)

        def stop(state, batch):
            state = step(state, batch)
            if int(state.step) == 4:
                terminate()
            return state

        state, _ = train(tmp_path, train_step=stop)
        assert int(state.guard.in_row) == 2
        with pytest.raises(NonFiniteError, match=r"step 5: .* \(3 \.\. 5\)"):
            train(tmp_path, train_step=poisoned(1))  # the first step after the resumption

    def test_the_run_after_it_ends_as_if_nothing_had_been(self, train, tmp_path, uninterrupted):
        with pytest.raises(NonFiniteError):
            train(tmp_path, train_step=poisoned(6, 7, 8))
        state, complete = train(tmp_path)
        assert complete
        assert_equal_states(state, uninterrupted[0])
        assert records(tmp_path) == uninterrupted[1]
