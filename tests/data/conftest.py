import pytest

from tests.data import toy


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return toy.toy_dataset(tmp_path_factory.mktemp("toy") / "dataset")
