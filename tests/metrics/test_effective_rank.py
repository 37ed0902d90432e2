import numpy as np
import pytest

from kunlun_jax.metrics.effective_rank import EffectiveRanks, effective_rank

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (np.eye(5), 5.0),
        (np.ones((5, 5)), 1.0),
        (np.diag([9.0, 9.0, 0.0]), 2.0),
        # sigma = 3, 1: p = 3/4, 1/4.
        (np.diag([9.0, 1.0]), 0.75**-0.75 * 0.25**-0.25),
        (np.zeros((3, 3)), 0.0),
    ],
)
def test_effective_rank(moment, expected):
    # The square root of a rounding error of 1e-16 is 1e-8.
    assert effective_rank(moment) == pytest.approx(expected, rel=1e-5)


def test_batches_add_up_to_the_split():
    z = RNG.normal(size=(40, 6)) * [5.0, 2.0, 1.0, 1.0, 0.1, 0.0]
    singular = np.linalg.svd(z, compute_uv=False)
    p = singular[singular > 1e-9] / singular.sum()
    ranks = EffectiveRanks()
    for part in (z[:7], z[7:30], z[30:]):
        ranks.add({"click/layer_1": part.T @ part})
    expected = np.exp(-np.sum(p * np.log(p)))
    assert ranks.compute() == {"effective_rank/click/layer_1": pytest.approx(expected, rel=1e-5)}


def test_nothing_recorded_gives_nothing():
    ranks = EffectiveRanks()
    ranks.add({})
    assert ranks.compute() == {}
