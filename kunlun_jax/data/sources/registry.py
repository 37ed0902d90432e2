"""The sources by name."""

import dataclasses
from collections.abc import Callable
from typing import Any

from kunlun_jax.data.sources import complete_journey, movielens_1m, synthetic
from kunlun_jax.data.tables import SourceTables


@dataclasses.dataclass(frozen=True)
class Source:
    """A way to make a data set.

    Attributes:
        options: Dataclass of the options; its fields are written to dataset.json.
        load: Makes the tables from the options.
        version: Changes whenever `load` gives other tables for the same options, so that data
            sets of older code are recognised.
    """

    options: type
    load: Callable[[Any], SourceTables]
    version: int = 1


SOURCES = {
    "complete_journey": Source(complete_journey.Options, complete_journey.load),
    "movielens_1m": Source(movielens_1m.Options, movielens_1m.load),
    "synthetic": Source(synthetic.Options, synthetic.load),
}
