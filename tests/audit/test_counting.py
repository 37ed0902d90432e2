import numpy as np
import pytest

from kunlun_jax.audit.counting import Part, count_earlier, evaluate
from tests.data import toy


def test_counts_against_a_loop():
    tables = toy.toy_tables()
    log, examples = tables.logs["click"], tables.splits["test"]
    counts = count_earlier(log, "item", examples, examples.ends["click"])
    for row, count in enumerate(counts):
        user, item = examples.users[row], examples.sparse["item"][row, 0]
        events = range(log.offsets[user], log.offsets[user + 1])
        earlier = [i for i in events if log.times[i] < examples.request_times[row]]
        expected = sum(log.ids["item"][i] == item for i in earlier)
        assert count == (expected if item > 0 else 0)
    assert counts.max() > 1


def test_metrics_by_hand():
    part = Part({}, np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0]))
    metrics = evaluate(np.array([0.5, 0.5, 0.25]), part, 0.5)
    loss = (2 * np.log(2) + 2 * np.log(4)) / 4
    assert metrics["log_loss"] == pytest.approx(loss)
    assert metrics["normalized_entropy"] == pytest.approx(loss / np.log(2))
    assert metrics["auc_roc"] == pytest.approx((1 * 0.5 + 2 * 0) / 3)
