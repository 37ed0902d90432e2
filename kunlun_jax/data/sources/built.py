"""Whatever data set is there: for those that the command line has built from your own tables."""

import dataclasses

from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.tables import SourceTables


@dataclasses.dataclass(frozen=True)
class Options:
    """No options: the directory says it all."""


def load(options: Options) -> SourceTables:
    """Refuse: this source has nothing to build from.

    Raises:
        DatasetError: Always.
    """
    raise DatasetError(
        "no data set to open; build one with python -m kunlun_jax.data.build --schema=..."
    )
