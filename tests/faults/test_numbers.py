"""Numbers that are not finite, ids without a row, and other inputs at the edge."""

import json

import jax
import numpy as np
import pytest

from kunlun_jax.data import BatchSource, Dataset, Events, Request, batch_requests
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.training.diagnosis import load_batch
from tests.data.changed import with_examples
from tests.faults.harness import steps
from tests.training.runs import records


@pytest.fixture
def poison(monkeypatch):
    """Let the training batches of some steps have NaN among their dense features."""

    def poison(*numbers):
        get = BatchSource.__getitem__

        def poisoned(self, record_key):
            batch = get(self, record_key)
            if "train" in repr(self) and record_key + 1 in numbers:
                batch = batch.replace(dense=np.full_like(batch.dense, np.nan))
            return batch

        monkeypatch.setattr(BatchSource, "__getitem__", poisoned)

    return poison


def change_examples(monkeypatch, split, **columns):
    """Let every data set be opened with such columns in a split."""
    opened = Dataset.open

    def changed(directory, **options):
        return with_examples(opened(directory, **options), split, **columns)

    monkeypatch.setattr(Dataset, "open", changed)


@pytest.mark.fault(
    "NaN or infinity in a loss or gradient",
    "that update is skipped and counted; every bit of parameters, tables and optimizer stays",
)
def test_nan_is_skipped(runs, tmp_path, poison, observe):
    poison(5, 6, 9)
    outcome = runs.here(tmp_path / "run")
    assert outcome.code == 0
    skipped = {x["step"]: x["train/skipped_updates"] for x in records(tmp_path / "run")
               if "train/loss" in x}  # fmt: skip
    assert [skipped[step] for step in (4, 5, 6, 8, 9, 20)] == [0, 1, 2, 2, 3, 3]
    state = runs.state(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    observe(outcome, "train/skipped_updates: 3")


@pytest.mark.fault(
    "NaN or infinity `stop_after_skips` times in a row",
    "exit 1; the first such batch is kept, the place where it arose is named, and the checkpoints "
    "before it stay",
)
def test_nan_in_a_row(runs, uninterrupted, tmp_path, poison, observe):
    poison(6, 7, 8)
    workdir = tmp_path / "run"
    outcome = runs.here(workdir, "training.stop_after_skips=3")
    assert outcome.code == 1
    assert outcome.message.startswith(
        "error: step 8: expected a finite loss and finite gradients, got NaN or infinity in 3 "
        "steps in a row (6 .. 8); it came in with batch/dense"
    )
    assert outcome.message.endswith("the newest checkpoint is of step 4")
    assert steps(workdir) == {"4"}
    kept = workdir / "nonfinite" / "step_6"
    assert np.isnan(load_batch(kept / "batch.npz").dense).all()
    assert json.loads((kept / "report.json").read_text())["inputs"] == ["batch/dense"]
    observe(outcome)


@pytest.mark.fault(
    "serving: ids -1, past the end, 2^40; missing streams; NaN features; histories too long",
    "the batch that training would have made: out-of-vocabulary row (and counted), empty history, "
    "the mean, the most recent events",
)
def test_serving_inputs(runs, uninterrupted, observe_text):
    dataset = Dataset.open(runs.data)
    rows = dataset.schema.vocabulary_by_name["item"].num_rows
    state, now, names = runs.state(uninterrupted), 1_700_000_000, dataset.schema
    context = [Request(now, sparse={"item": bad}) for bad in (-1, 0, rows, 2**40)]
    events = {"purchase": Events(times=range(now - 1000, now), ids={"item": [2**40] * 1000})}
    dense = {feature.name: float("nan") for feature in names.dense}
    requests = [*context, Request(now), Request(now, dense=dense, events=events)]
    batch = batch_requests(requests, names, max_lens={"purchase": 8})
    assert batch.streams["purchase"].lengths.tolist() == [0] * 5 + [8]
    logits = runs.logits(state, names, batch)
    assert np.isfinite(logits).all()
    # Four ids that no row stands for are one and the same to the model.
    assert len({float(x) for x in logits[:4, 0]}) == 1
    observe_text("finite logits, equal for all ids without a row")


@pytest.mark.fault(
    "ids of -1, past the end and 2^31 - 1 in training batches",
    "the out-of-vocabulary row, and counted; a column of 64 bits is refused where data are read",
)
def test_ids_without_a_row(runs, uninterrupted, tmp_path, monkeypatch, observe):
    get, size = BatchSource.__getitem__, 32 * 8

    def strange(self, record_key):
        batch = get(self, record_key)
        purchases = batch.streams["purchase"]
        ids = np.array([-1, 51, 2**31 - 1, -(2**31)] * (size // 4), np.int32).reshape(32, 8)
        replaced = purchases.replace(ids={name: ids for name in purchases.ids})
        if "train" not in repr(self):
            return batch
        return batch.replace(streams={**batch.streams, "purchase": replaced})

    monkeypatch.setattr(BatchSource, "__getitem__", strange)
    outcome = runs.here(tmp_path / "run")
    assert outcome.code == 0
    found, usual = (
        [x["train/out_of_vocabulary_rate"] for x in records(workdir) if "train/loss" in x]
        for workdir in (tmp_path / "run", uninterrupted)
    )
    assert max(usual) < 0.2 < 0.4 < min(found)
    state = runs.state(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    observe(outcome, f"train/out_of_vocabulary_rate: {found[0]:.2f}")


@pytest.mark.fault(
    "one user only, and all histories empty", "trained like any other; every number is finite"
)
def test_one_user_without_a_history(runs, tmp_path, monkeypatch, observe):
    opened = Dataset.open

    def one_user(directory, **options):
        dataset = opened(directory, **options)
        for split in SPLITS:
            dataset = with_examples(dataset, split, users=0, ends=0)
        return dataset

    monkeypatch.setattr(Dataset, "open", one_user)
    outcome = runs.here(tmp_path / "run")
    assert outcome.code == 0
    *_, last = records(tmp_path / "run")
    assert None not in last.values()
    assert last["test/gauc"] == pytest.approx(last["test/auc_roc"], abs=1e-3)
    state = runs.state(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    observe(outcome, "every metric finite; gauc is the AUC")


@pytest.mark.fault(
    "one class only in the evaluated examples", "the AUC is null in the record; the run goes on"
)
def test_one_class(runs, tmp_path, monkeypatch, observe):
    change_examples(monkeypatch, "validation", labels=0.0)
    outcome = runs.here(tmp_path / "run")
    assert outcome.code == 0
    *_, last = records(tmp_path / "run")
    assert (last["val/auc_roc"], last["val/gauc"]) == (None, None)
    assert last["val/normalized_entropy"] > 0
    assert last["test/auc_roc"] > 0
    observe(outcome, "val/auc_roc: null")


@pytest.mark.fault("no validation example has a weight", "refused before the first step")
def test_validation_without_weight(runs, tmp_path, monkeypatch, observe):
    change_examples(monkeypatch, "validation", weights=0.0)
    outcome = runs.here(tmp_path / "run")
    assert outcome.code == 1
    assert "split 'validation': expected examples with a weight above 0, got" in outcome.message
    observe(outcome)


@pytest.mark.fault("one class only in the training labels", "refused before the first step")
def test_one_class_in_training(runs, uninterrupted, tmp_path, monkeypatch, observe):
    change_examples(monkeypatch, "train", labels=0.0)
    outcome = runs.here(tmp_path / "run")
    assert outcome.code == 1
    assert "'click' of both classes" in outcome.message
    observe(outcome)


@pytest.mark.fault(
    "a wrong key, type or value in the configuration", "refused in one line, naming it"
)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.stop_after_skips=0", "config.training.stop_after_skips: expected > 0, got 0"),
        ("training.stop_after_skips=often", "training.stop_after_skips=often"),
        ("training.stop_after_skip=3", "stop_after_skip"),
        ("optimizer.clip_norm=nan", "config.optimizer.clip_norm: expected a finite number"),
        ("data.batch_size=1099511627776", "config.data.batch_size: expected an integer of 32"),
        ("data.options.num_users=many", "data.options.num_users=many"),
    ],
)
def test_configuration(runs, tmp_path, change, message, observe):
    outcome = runs.here(tmp_path / "run", change)
    assert outcome.code == 1
    assert message in outcome.message
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    observe(outcome)
