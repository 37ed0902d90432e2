import jax
import pytest

from tests.data import toy


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compile a step once, however many runs and processes of these tests use it."""
    directory = tmp_path_factory.mktemp("compilations")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(directory))
    yield directory
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Two tasks, two streams, 203 training examples."""
    return toy.toy_dataset(tmp_path_factory.mktemp("toy") / "dataset")
