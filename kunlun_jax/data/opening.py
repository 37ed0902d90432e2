"""Opens the data set that a configuration names; builds it first where it is missing."""

from collections.abc import Sequence

from kunlun_jax.config import ConfigError, DataConfig
from kunlun_jax.data.build import open_or_build
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.sources import SOURCES


def open_dataset(config: DataConfig, held: Sequence[int] | None = None) -> Dataset:
    """Open the data set that a configuration names; build it first where it is missing.

    Args:
        config: Source, its options, the directories, and how many parts.
        held: The parts to open; None: all.

    Raises:
        ConfigError: On an unknown source or options it does not have.
        DatasetError: If the directory holds something else.
    """
    if config.source not in SOURCES:
        raise ConfigError(
            f"config.data.source: expected one of {sorted(SOURCES)}, got {config.source!r}"
        )
    try:
        options = SOURCES[config.source].make_options(dict(config.options))
    except ValueError as error:
        raise ConfigError(f"config.data.options: {error}") from error
    try:
        return open_or_build(
            config.source,
            options,
            config.directory,
            columns_directory=config.columns_directory,
            verify=config.verify,
            num_parts=config.parts,
            held=held,
        )
    except ValueError as error:  # files that are not what the source expects
        raise DatasetError(str(error)) from error
