import collections
import contextlib
import logging
import os
import re
import shutil
import signal
from types import SimpleNamespace

import jax
import pytest

from configs import smoke
from kunlun_jax.config import ConfigError, DataConfig, experiment_config
from kunlun_jax.data import DatasetError
from kunlun_jax.training.checkpoint import CheckpointError
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_dataset, open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import MetricWriter
from tests.training import tiny
from tests.training.runs import assert_equal_states, records


@pytest.fixture(scope="module")
def data_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "tiny"


@pytest.fixture(scope="module")
def config(data_directory):
    return tiny.experiment(data_directory)


class CompilationCounter(logging.Handler):
    """Counts what jax compiles while it says so (jax.log_compiles)."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def emit(self, record):
        if match := re.match(r"Finished XLA compilation of jit\((\w+)\)", record.getMessage()):
            self.counts[match[1]] += 1


@contextlib.contextmanager
def counted_compilations():
    handler, logger = CompilationCounter(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield handler.counts
    finally:
        logger.removeHandler(handler)


def run_to_the_end(config, workdir):
    """Do what train.py does; return the final state and the report, None if stopped."""
    workdir.mkdir(exist_ok=True)
    with open_run(config, workdir) as run:
        state, complete = run_loop(run, run.resume_or_initialize(), run.train_step())
        return state, report_best(run, state) if complete else None


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """One run from beginning to end."""
    workdir = tmp_path_factory.mktemp("finished")
    with counted_compilations() as compilations:
        state, report = run_to_the_end(config, workdir)
    return SimpleNamespace(workdir=workdir, state=state, report=report, compilations=compilations)


class TestRun:
    def test_takes_every_step(self, finished):
        assert int(finished.state.step) == tiny.NUM_STEPS

    def test_records_every_metric(self, finished):
        lines = records(finished.workdir)
        assert lines[0].keys() >= {"step", "train/loss", "train/normalized_entropy"}
        validation = [line for line in lines if "val/normalized_entropy" in line]
        assert [line["step"] for line in validation] == [10, 20, 20]
        last = lines[-1]
        assert last.keys() >= {"test/normalized_entropy", "test/auc_roc", "test/gauc", "best/step"}
        assert last["val/count"] == 200
        assert last["test/count"] == 150

    def test_reports_the_best_checkpoint(self, finished):
        *lines, last = records(finished.workdir)
        entropies = {x["step"]: x.get("val/normalized_entropy", 9.0) for x in lines}
        assert last["best/step"] == min(entropies, key=entropies.get)
        assert last["val/normalized_entropy"] == pytest.approx(min(entropies.values()), rel=1e-6)
        assert f"best checkpoint: step {last['best/step']:.0f}" in finished.report
        assert f"{last['test/auc_roc']:.5f}" in finished.report

    def test_compiles_each_step_once(self, finished):
        assert finished.compilations["train_step"] == 1
        assert finished.compilations["eval_step"] == 1

    def test_a_complete_run_reports_again_and_changes_nothing(self, config, finished):
        before = records(finished.workdir)
        state, report = run_to_the_end(config, finished.workdir)
        assert report == finished.report
        assert records(finished.workdir) == before
        assert_equal_states(state, finished.state)

    def test_summary_names_every_stream(self, config, tmp_path):
        with open_run(config, tmp_path) as run:
            text = run.summary()
        assert "purchase_pooling" in text
        assert "table item" in text
        assert "FLOPs/example" in text


class TestResume:
    @pytest.mark.parametrize("step", [7])
    def test_after_sigterm_is_bitwise_equal(self, config, tmp_path, finished, monkeypatch, step):
        write = MetricWriter.write

        def write_and_terminate(self, at, metrics):
            write(self, at, metrics)
            if at == step:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(MetricWriter, "write", write_and_terminate)
            state, report = run_to_the_end(config, tmp_path)
        assert report is None
        assert int(state.step) == step
        with counted_compilations() as compilations:
            state, report = run_to_the_end(config, tmp_path)
        assert_equal_states(state, finished.state)
        assert records(tmp_path) == records(finished.workdir)
        assert report == finished.report
        assert compilations["train_step"] == compilations["eval_step"] == 1

    def test_refuses_the_checkpoint_of_another_model(self, data_directory, finished):
        other = tiny.experiment(data_directory, **{"model.n_sum": 6})
        message = r"config\.model\.n_sum: expected 6, got 4"
        with (
            pytest.raises(CheckpointError, match=message),
            open_run(other, finished.workdir) as run,
        ):
            run.resume_or_initialize()

    def test_refuses_a_checkpoint_of_other_data(self, tmp_path, finished):
        workdir = tmp_path / "run"
        shutil.copytree(finished.workdir, workdir)
        (workdir / "data.json").unlink()  # which would refuse first
        other = tiny.experiment(tmp_path / "data", **{"data.options.seed": 1})
        with (
            pytest.raises(CheckpointError, match="pipeline: expected"),
            open_run(other, workdir) as run,
        ):
            run.resume_or_initialize()


class TestEvaluation:
    def test_does_not_depend_on_the_batch_size(self, data_directory, finished):
        other = tiny.experiment(data_directory, **{"data.eval_batch_size": 37})
        with open_run(other, finished.workdir) as run:
            report_best(run, run.resume_or_initialize())
        # The line above replaced the finished run's; both are of the same checkpoint.
        *_, last = records(finished.workdir)
        evaluated = next(
            x
            for x in records(finished.workdir)
            if x["step"] == last["best/step"] and "val/ece" in x
        )
        for key in ("normalized_entropy", "auc_roc", "gauc", "log_loss", "calibration"):
            assert last[f"val/{key}"] == pytest.approx(evaluated[f"val/{key}"], rel=1e-5), key


class TestOpenDataset:
    def data(self, directory, source="synthetic", **options):
        return DataConfig(source=source, options=tuple(options.items()), directory=str(directory))

    def test_refuses_an_unknown_source(self, tmp_path):
        with pytest.raises(ConfigError, match=r"config\.data\.source: expected one of .*'nowhere'"):
            open_dataset(self.data(tmp_path / "d", source="nowhere"))

    @pytest.mark.parametrize("options", [{"speed": 1}, {"num_users": 0}])
    def test_refuses_wrong_options(self, tmp_path, options):
        with pytest.raises(ConfigError, match=rf"config\.data\.options: .*{next(iter(options))}"):
            open_dataset(self.data(tmp_path / "d", **options))

    def test_names_files_that_are_not_what_they_should_be(self, tmp_path):
        for name in ("ratings.dat", "users.dat", "movies.dat"):
            (tmp_path / name).write_text("nothing\n")
        data = self.data(tmp_path / "d", source="movielens_1m", path=str(tmp_path))
        with pytest.raises(DatasetError, match=r"\.dat: expected fields"):
            open_dataset(data)


class TestBadData:
    def test_more_events_than_the_data_set_has(self, data_directory, tmp_path):
        config = tiny.experiment(data_directory, **{"model.streams.purchase.max_len": 1000})
        with pytest.raises(ConfigError, match=r"purchase\.max_len: expected at most 8, got 1000"):
            open_run(config, tmp_path)


@pytest.mark.slow
def test_the_smoke_config_lowers_normalized_entropy(tmp_path):
    """As .ci/run does, by the program and for as many steps as it says."""
    config = smoke.get_config()
    config.data.directory = str(tmp_path / "data")
    config.data.num_epochs = 0.5
    run_to_the_end(experiment_config(config), tmp_path / "run")
    *_, last = records(tmp_path / "run")
    assert last["test/normalized_entropy"] < 0.9
    assert last["test/auc_roc"] > 0.65
