import contextlib
import os
import signal

import jax
import jax.numpy as jnp
import pytest

from kunlun_jax.config import DataConfig, ExperimentConfig, TrainingConfig
from kunlun_jax.data import BatchSource, make_train_iterator
from kunlun_jax.training.checkpoint import Checkpoints
from kunlun_jax.training.evaluation import Evaluator
from kunlun_jax.training.loop import NonFiniteLossError, StopSignal, Trainer
from kunlun_jax.training.workdir import MetricWriter
from tests.data import toy
from tests.training import linear
from tests.training.runs import assert_equal_states, records

NUM_STEPS = 12
BATCH_SIZE = 16
CADENCE = TrainingConfig(log_every=3, eval_every=5, checkpoint_every=4, keep_checkpoints=2)
STEP = jax.jit(linear.train_step, donate_argnums=0)


class Killed(BaseException):
    """Stands for SIGKILL, as far as one process can."""


@pytest.fixture(scope="module")
def train(dataset):
    """Start, or go on with, the run of a working directory, as train.py does."""
    evaluator = Evaluator(linear.eval_step, label_rates=[0.35, 0.15], tasks=dataset.schema.labels)

    def batches(split):
        return BatchSource(
            dataset,
            split=split,
            batch_size=BATCH_SIZE,
            max_lens=toy.MAX_LENS,
            shuffle=split == "train",
        )

    def train(workdir, *, train_step=STEP, cadence=CADENCE):
        checkpoints = Checkpoints(workdir / "checkpoints", keep=2, identity={})
        data, state = make_train_iterator(batches("train")), linear.initial_state()
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(checkpoints.latest_step, state, data)
        writer = MetricWriter(workdir, from_step=int(state.step))
        trainer = Trainer(
            config=ExperimentConfig(data=DataConfig(batch_size=BATCH_SIZE), training=cadence),
            train_step=train_step,
            data=data,
            validation=batches("validation"),
            evaluator=evaluator,
            checkpoints=checkpoints,
            writer=writer,
            num_steps=NUM_STEPS,
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

    def test_a_log_line_covers_the_steps_since_the_last(self, uninterrupted):
        _, lines = uninterrupted
        counts = [line["train/click/count"] for line in lines if "train/loss" in line]
        assert counts == [3 * BATCH_SIZE] * 4

    def test_shows_progress(self, train, tmp_path, capfd):
        train(tmp_path)
        shown = capfd.readouterr().err
        assert "loss=" in shown
        assert "NE=" in shown
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


def poisoned(step, field):
    """Return the train step after which a field of the state is NaN."""

    def train_step(state, batch):
        state = STEP(state, batch)
        if int(state.step) == step:
            value = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), getattr(state, field))
            state = state.replace(**{field: value})
        return state

    return train_step


class TestNonFinite:
    # Found at a log line, at a checkpoint, and at the checkpoint before any logit shows it.
    @pytest.mark.parametrize(
        ("field", "step", "found_at"), [("params", 5, 6), ("tables", 6, 8), ("gradient_norm", 8, 8)]
    )
    def test_stops_and_keeps_the_checkpoints_before(
        self, train, tmp_path, uninterrupted, field, step, found_at
    ):
        cadence = TrainingConfig(log_every=6, eval_every=10, checkpoint_every=4)
        message = f"step {found_at}: expected finite logits and gradients"
        with pytest.raises(NonFiniteLossError, match=message):
            train(tmp_path, train_step=poisoned(step, field), cadence=cadence)
        saved = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
        assert saved == {"4"}
        state, complete = train(tmp_path, cadence=cadence)
        assert complete
        assert_equal_states(state.params, uninterrupted[0].params)

    def test_a_rejected_window_is_not_recorded(self, train, tmp_path):
        with pytest.raises(NonFiniteLossError):
            train(tmp_path, train_step=poisoned(1, "params"))
        assert records(tmp_path) == []
