import pytest

from tests.data import toy


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Two tasks, two streams, 203 training examples."""
    return toy.toy_dataset(tmp_path_factory.mktemp("toy") / "dataset")
