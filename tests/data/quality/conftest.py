import numpy as np
import pytest

from tests.data.quality.test_leaks import ROWS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def labels(rng):
    """Of `ROWS` examples, a fifth positive."""
    return rng.random(ROWS) < 0.2
