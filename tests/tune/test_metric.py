import json

import pytest

from kunlun_jax.config import ConfigError
from kunlun_jax.tune.metric import Metric

LINES = [
    {"step": 5, "train/loss": 0.1},
    {"step": 10, "val/normalized_entropy": 0.9, "val/auc_roc": 0.6},
    {"step": 20, "val/normalized_entropy": None, "val/auc_roc": 0.8},
    {"step": 30, "val/normalized_entropy": 0.8, "val/auc_roc": 0.7},
    {"step": 30, "best/step": 30, "val/normalized_entropy": 0.1, "val/auc_roc": 0.99},
]


@pytest.mark.parametrize(
    ("name", "until", "values", "best"),
    [
        ("normalized_entropy", 30, [0.9, None, 0.8], 0.8),
        ("normalized_entropy", 29, [0.9, None], 0.9),
        ("auc_roc", 30, [0.6, 0.8, 0.7], 0.8),
        ("auc_roc", 9, [], None),
    ],
)
def test_it_is_the_best_of_a_runs_evaluations_until_a_step(tmp_path, name, until, values, best):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    metric = Metric(name)
    found = metric.values(tmp_path, until=until)
    assert (found, metric.best(found)) == (values, best)


def test_a_run_without_a_record_has_none(tmp_path):
    assert Metric("auc_roc").values(tmp_path, until=9) == []


@pytest.mark.parametrize(
    ("name", "tasks", "minimize"),
    [("normalized_entropy", ["a", "b"], True), ("gauc", ["a"], False), ("b/log_loss", "ab", True)],
)
def test_names_are_those_of_the_evaluations(name, tasks, minimize):
    metric = Metric(name)
    metric.require_of(tasks)
    assert metric.minimize is minimize


@pytest.mark.parametrize(("name", "tasks"), [("auc", ["a"]), ("a/auc_roc", ["a"]), ("gauc", "ab")])
def test_another_name_is_refused(name, tasks):
    with pytest.raises(ConfigError, match="--metric: expected one of normalized_entropy, "):
        Metric(name).require_of(tasks)
