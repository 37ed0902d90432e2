import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compile a training step once, however many runs and processes of the tests use it."""
    directory = tmp_path_factory.mktemp("compilations")
    jax.config.update("jax_compilation_cache_dir", str(directory))
    return directory
