"""The schema of an experiment whose data set may not be there."""

import importlib.util
import pathlib

from kunlun_jax.config import ConfigError, DataConfig
from kunlun_jax.data.manifest import MANIFEST, read_schema
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.sources import SOURCES


def schema_of(config: DataConfig, file: pathlib.Path) -> Schema:
    """Return the schema of the data set, wherever it is told.

    The data set itself comes first, then a function `schema()` of the config file, then what the
    source knows of the data sets it makes.

    Args:
        config: The experiment's data.
        file: The config file.

    Raises:
        ConfigError: If none of the three knows it.
    """
    directory = pathlib.Path(config.directory)
    if (directory / MANIFEST).exists():
        return read_schema(directory)
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification and specification.loader, file  # it was read as a config before
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if hasattr(module, "schema"):
        return module.schema()
    source = SOURCES.get(config.source)
    if source is not None and source.schema is not None:
        try:
            found = source.schema(source.make_options(dict(config.options)))
        except ValueError as error:
            raise ConfigError(f"config.data.options: {error}") from error
        if found is not None:
            return found
    raise ConfigError(
        f"schema: expected a data set in {directory}, or a function schema() in {file}, or a "
        f"source that knows it; {config.source!r} does not with these options"
    )
