import pytest

from tests.data.own_data import world


@pytest.fixture(scope="module")
def tables():
    return world.make_tables(0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tables):
    return world.build(tmp_path_factory.mktemp("world"), tables)
