import math

import pytest

from kunlun_jax.config import ConfigError, TrainingConfig
from kunlun_jax.metrics.tasks import by_task, headline, mean_over_tasks, task_weights

TASKS = ("click", "buy", "like")


def weights(**given):
    return task_weights(
        TrainingConfig(task_weights=tuple((k, float(w)) for k, w in given.items())), TASKS
    )


class TestTaskWeights:
    def test_a_task_that_is_not_named_has_weight_one(self):
        assert weights(buy=3) == (1.0, 3.0, 1.0)

    @pytest.mark.parametrize("given", [{}, {"buy": 1.0}, {"click": 2, "buy": 2, "like": 2.0}])
    def test_equal_weights_are_the_mean(self, given):
        assert weights(**given) is None

    def test_refuses_a_task_that_is_not_there(self):
        with pytest.raises(ConfigError, match=r"task_weights: expected labels .*'like'\], got 'b'"):
            weights(b=2.0)

    def test_refuses_weights_of_zero_only(self):
        with pytest.raises(ConfigError, match="expected a weight above 0, got 0 for every one of"):
            weights(click=0, buy=0, like=0)


class TestMeanOverTasks:
    def test_by_hand(self):
        assert mean_over_tasks([1.0, 2.0, 6.0], None) == 3.0
        assert mean_over_tasks([1.0, 2.0, math.nan], (1.0, 3.0, 0.0)) == 1.75


class TestHeadline:
    def test_one_task_is_its_own(self):
        assert headline(("click",), None) == "NE"

    def test_several_are_named(self):
        assert headline(TASKS, None) == (
            "mean NE over the tasks click, buy and like, all of weight 1"
        )
        assert headline(TASKS, (1.0, 2.5, 0.0)) == (
            "mean NE over the tasks click of weight 1 and buy of weight 2.5 "
            "(config.training.task_weights); without like, of weight 0"
        )


def test_metrics_by_task():
    values = {"normalized_entropy": 1.5, "a/auc_roc": 0.6, "b/auc_roc": 0.7, "rank": 3.0}
    assert by_task(values, ("a", "b")) == {"a": {"auc_roc": 0.6}, "b": {"auc_roc": 0.7}}
    assert by_task({"auc_roc": 0.6}, ("a",)) == {"a": {"auc_roc": 0.6}}
