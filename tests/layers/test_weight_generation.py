import numpy as np
import pytest

from kunlun_jax.layers.weight_generation import WeightGeneration
from tests import factories, oracles


def test_equals_the_formula():
    module = WeightGeneration(factories.config())
    factories.assert_formula(module, oracles.weight_generation, factories.array(3, 5, 8))


def test_aligned_start_hands_the_candidate_through():
    tokens = factories.array(64, 5, 8)
    module = WeightGeneration(factories.config(init="aligned"))
    variables = factories.initialized(module, tokens)
    summary = np.asarray(factories.apply(module, variables, tokens))
    similarity = np.corrcoef(summary[:, 0].ravel(), tokens[:, 0].ravel())[0, 1]
    assert similarity > 0.8


@pytest.mark.parametrize("init", ["aligned", "random"])
def test_summary_starts_near_unit_variance(init):
    tokens = factories.array(256, 5, 8)
    module = WeightGeneration(factories.config(init=init))
    variables = factories.initialized(module, tokens)
    assert 0.3 < np.std(factories.apply(module, variables, tokens)) < 3.0
