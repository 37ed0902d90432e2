import numpy as np
import pytest

from kunlun_jax.audit.counting import Part, evaluate


def test_metrics_by_hand():
    part = Part({}, np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0]))
    metrics = evaluate(np.array([0.5, 0.5, 0.25]), part, 0.5)
    loss = (2 * np.log(2) + 2 * np.log(4)) / 4
    assert metrics["log_loss"] == pytest.approx(loss)
    assert metrics["normalized_entropy"] == pytest.approx(loss / np.log(2))
    assert metrics["auc_roc"] == pytest.approx((1 * 0.5 + 2 * 0) / 3)
