"""Two tasks, and weights that undo a sampling of negatives, from the data set to the audit."""

import dataclasses
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.metrics import log_loss, roc_auc_score

from configs import base
from kunlun_jax.audit import shortcuts
from kunlun_jax.audit.counting import counting_rows
from kunlun_jax.audit.report import screen
from kunlun_jax.audit.shortcuts import AuditOptions, audit_model
from kunlun_jax.compare import compare_runs, line
from kunlun_jax.config import ConfigError, experiment_config
from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.manifest import MANIFEST, manifest_checksum
from kunlun_jax.training.checkpoint import CheckpointError
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict, report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import WorkdirError, open_workdir
from tests.data import toy
from tests.training import tiny
from tests.training.runs import records

SOURCE = {"name": "toy", "version": "1", "options": {"seed": 0}}
SHARES = {"buy": 3.0}


def undo_sampling(examples):
    weights = np.where(examples.labels[:, 1] > 0, 1.0, 20.0)
    return np.where(np.arange(len(examples)) % 5 == 0, 0.0, weights)


def build(directory, **weigh):
    """Build the toy data set; weights by split, which the others have of `undo_sampling`."""
    tables = toy.toy_tables()
    splits = {
        name: dataclasses.replace(
            part, weights=weigh.get(name, undo_sampling)(part).astype(np.float32)
        )
        for name, part in tables.splits.items()
    }
    write_dataset(dataclasses.replace(tables, splits=splits), directory, source=SOURCE)
    return directory


def experiment(directory, **changes):
    config = tiny.get_config()
    config.data.update({"source": "built", "directory": str(directory), "num_epochs": 2.0})
    config.data.options = ConfigDict()
    config.model.name = "din"
    config.model.streams = ConfigDict()
    config.model.streams.click = base.stream(
        model_dim=8, num_heads=1, n_kv=4, n_tokens=2, n_seeds=4, num_layers=2, window=2,
        max_len=8, mlp_dim=8,
    )  # fmt: skip
    config.training.task_weights = ConfigDict(SHARES)
    config.update_from_flattened_dict(changes)
    return experiment_config(config)


@dataclasses.dataclass
class Finished:
    workdir: object
    report: str


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return Dataset.open(build(tmp_path_factory.mktemp("weights") / "data"))


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    config, path = experiment(dataset.directory), tmp_path_factory.mktemp("weights") / "run"
    with open_workdir(path, config) as workdir, open_run(config, workdir) as run:
        state, _ = run_loop(run, run.resume_or_initialize(), run.train_step())
        report = report_best(run, state)
    return Finished(workdir, report)


@pytest.fixture(scope="module")
def oracle(dataset):
    """By task: weighted training rate, and the test split's labels and weights, in float64."""
    train, test = dataset.splits["train"], dataset.splits["test"]
    weights, used = train.weights.astype(np.float64), test.weights > 0
    rates = (weights @ train.labels.astype(np.float64)) / weights.sum()
    return rates, test.labels[used].astype(np.float64), test.weights[used].astype(np.float64)


def entropy(rate):
    return -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))


def test_the_report_agrees_with_scikit_learn(finished, oracle):
    rates, labels, weights = oracle
    *_, last = records(finished.workdir)
    with open_finished(finished.workdir) as (run, state):
        scores = predict(run, state, "test")
        assert run.data.label_rates == pytest.approx(list(rates), rel=1e-12)
    entropies = []
    for i, task in enumerate(toy.SCHEMA.labels):
        logits = scores.logits[:, i].astype(np.float64)
        loss = log_loss(labels[:, i], 1 / (1 + np.exp(-logits)), sample_weight=weights)
        entropies.append(loss / entropy(rates[i]))
        assert last[f"test/{task}/normalized_entropy"] == pytest.approx(entropies[i], rel=1e-5)
        auc = roc_auc_score(labels[:, i], logits, sample_weight=weights)
        assert last[f"test/{task}/auc_roc"] == pytest.approx(auc, rel=1e-9)
    mean = (entropies[0] + 3 * entropies[1]) / 4
    assert last["test/normalized_entropy"] == pytest.approx(mean, rel=1e-5)


def test_the_best_step_is_that_of_the_weighted_mean(finished):
    lines = [x for x in records(finished.workdir) if "val/normalized_entropy" in x]
    *validated, last = lines
    best = min(validated, key=lambda x: x["val/normalized_entropy"])
    assert last["best/step"] == best["step"]
    assert "mean NE over the tasks click of weight 1 and buy of weight 3" in finished.report
    assert f"{last['test/buy/auc_roc']:.5f}" in finished.report
    for record in validated:
        parts = [record[f"val/{task}/normalized_entropy"] for task in toy.SCHEMA.labels]
        mean = (parts[0] + 3 * parts[1]) / 4
        assert record["val/normalized_entropy"] == pytest.approx(mean)


def test_the_training_loss_is_that_of_the_task_weights(finished):
    for record in (x for x in records(finished.workdir) if "train/loss" in x):
        click, buy = (record[f"train/{task}/log_loss"] for task in toy.SCHEMA.labels)
        assert record["train/loss"] == pytest.approx((click + 3 * buy) / 4)
        assert 0 <= record["train/buy/auc_roc_margin"] <= 0.5


def test_the_constant_of_the_counting_rows_has_the_entropy_of_the_formula(dataset, oracle):
    rates, labels, weights = oracle
    for task, rate in enumerate(rates):
        constant, *_ = counting_rows(dataset, task=task, num_rounds=1)
        positive = np.average(labels[:, task], weights=weights)
        loss = -(positive * np.log(rate) + (1 - positive) * np.log(1 - rate))
        assert constant["normalized_entropy"] == pytest.approx(loss / entropy(rate), rel=1e-9)
        assert constant["auc_roc"] == 0.5


def test_a_model_that_predicts_the_rate_gains_nothing_over_the_constant(
    finished, dataset, monkeypatch
):
    """The audit's two sides, model and counting rows, have one scale."""
    with open_finished(finished.workdir) as (run, state):
        rates = np.array(run.data.label_rates)
        constant, *_ = counting_rows(dataset, task=1, num_rounds=1)

        def predict_the_rate(*arguments, **options):
            scores = predict(*arguments, **options)
            logits = np.tile(np.log(rates / (1 - rates)), (len(scores), 1)).astype(np.float32)
            return dataclasses.replace(scores, logits=logits)

        monkeypatch.setattr(shortcuts, "predict", predict_the_rate)
        intact, *_ = audit_model(run, state, AuditOptions(1, 0, 20, 0))
    assert intact["normalized_entropy"] == pytest.approx(constant["normalized_entropy"], rel=1e-6)


def test_compare_uses_the_weighted_rate_and_names_the_label(finished):
    runs = [str(finished.workdir)] * 2
    *_, last = records(finished.workdir)
    result = compare_runs(*runs, task="buy", num_resamples=20)
    reported = last["test/buy/normalized_entropy"]
    assert result["a"]["normalized_entropy"] == pytest.approx(reported, rel=1e-5)
    assert "label buy (one of 2; --task names another)" in line(result)


def test_the_audit_names_the_label():
    content = {"task": "buy", "tasks": ["click", "buy"], "verdict": [], "counting": [], "model": []}
    assert screen(content).startswith("label buy (one of 2; --task names another)")
    assert screen({**content, "tasks": ["buy"]}).startswith("label buy\n")


def test_what_an_earlier_version_recorded_changes_no_number(finished, dataset):
    path = dataset.directory / MANIFEST
    before = path.read_text()
    content = json.loads(before)
    content["label_rates"]["train"] = {"click": 0.5, "buy": 0.0}
    content["manifest_sha256"] = manifest_checksum(content)
    path.write_text(json.dumps(content))
    try:
        with open_finished(finished.workdir) as (run, _):
            assert run.data.label_rates == list(dataset.label_rates["train"].values())
    finally:
        path.write_text(before)


class TestResume:
    def test_other_task_weights_are_another_run(self, finished, dataset):
        config = experiment(dataset.directory, **{"training.task_weights.buy": 2.0})
        with pytest.raises(WorkdirError, match=r"task_weights\.buy = 3\.0, got 2\.0"):
            open_workdir(finished.workdir, config).__enter__()
        with (
            pytest.raises(CheckpointError, match="task_weights"),
            open_run(config, finished.workdir) as run,
        ):
            run.resume_or_initialize()

    def test_a_run_of_before_there_were_task_weights_goes_on(self, dataset, tmp_path):
        ones = ConfigDict({"click": 1.0, "buy": 1.0})
        config = experiment(dataset.directory)
        config = dataclasses.replace(
            config, training=dataclasses.replace(config.training, task_weights=tuple(ones.items()))
        )
        with open_workdir(tmp_path, config) as workdir:
            (workdir / "metrics.jsonl").write_text('{"step": 1}\n')
        content = json.loads((tmp_path / "config.json").read_text())
        del content["training"]["task_weights"]
        (tmp_path / "config.json").write_text(json.dumps(content))
        with open_workdir(tmp_path, config):
            pass


class TestRefusals:
    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_a_split_without_weight(self, tmp_path, split):
        directory = build(tmp_path / "data", **{split: lambda x: np.zeros(len(x))})
        message = f"data: split '{split}': expected examples with a weight above 0, got none of"
        with pytest.raises(DatasetError, match=message):
            open_run(experiment(directory), tmp_path)
        with pytest.raises(DatasetError, match=f"split '{split}': expected examples with a weight"):
            counting_rows(Dataset.open(directory))

    def test_training_without_weight(self, tmp_path):
        directory = build(tmp_path / "data", train=lambda x: np.zeros(len(x)))
        with pytest.raises(DatasetError, match="data: split 'train': expected examples with a"):
            open_run(experiment(directory), tmp_path)

    def test_one_class_once_weighted(self, tmp_path):
        directory = build(tmp_path / "data", train=lambda x: 1.0 - x.labels[:, 1])
        with pytest.raises(DatasetError, match=r"'buy' of both classes, got a mean of 0\.0"):
            open_run(experiment(directory), tmp_path)

    def test_a_sample_without_weight(self, tmp_path):
        first = {"validation": lambda x: np.arange(len(x)) == 0}
        config = experiment(build(tmp_path / "data", **first), **{"data.max_eval_examples": 1})
        with (
            pytest.raises(ConfigError, match="'validation': expected examples with a weight above"),
            open_run(config, tmp_path / "run") as run,
        ):
            run_loop(run, run.resume_or_initialize(), run.train_step())
        assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))

    def test_no_checkpoint_with_a_number(self, finished, monkeypatch):
        with open_finished(finished.workdir) as (run, state):
            monkeypatch.setattr(type(run.checkpoints), "best_step", None)
            with pytest.raises(CheckpointError, match="validation NE is a number, got none"):
                report_best(run, state)

    def test_a_task_that_is_not_there(self, dataset, tmp_path):
        config = experiment(dataset.directory)
        training = dataclasses.replace(config.training, task_weights=(("bye", 2.0),))
        with pytest.raises(ConfigError, match=r"expected labels .*'click', 'buy'\], got 'bye'"):
            open_run(dataclasses.replace(config, training=training), tmp_path)
