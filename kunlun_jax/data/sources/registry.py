"""The sources by name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kunlun_jax.config.parsing import parse
from kunlun_jax.data.building.shards import ShardSource
from kunlun_jax.data.schema import Schema
from kunlun_jax.data.sources import (
    built,
    complete_journey,
    movielens_1m,
    synthetic,
    synthetic_shards,
)
from kunlun_jax.data.tables import SourceTables

BUILT = "built"


@dataclasses.dataclass(frozen=True)
class Source:
    """A way to make a data set.

    Attributes:
        options: Dataclass of the options; its fields are written to dataset.json.
        load: Makes the tables from the options.
        shards: Makes the same data set shard by shard, from the options and the number of shards,
            in memory that does not grow with the data set; None if the source cannot.
        version: Changes whenever `load` gives other tables for the same options, so that data
            sets of older code are recognised.
        schema: Says, from the options, what schema the data set has, where that is known.
        earlier: Versions whose data sets are still opened: what they lack, such as cross features,
            their schema does not declare. Options that they do not know are not asked of them.
    """

    options: type
    load: Callable[[Any], SourceTables]
    shards: Callable[[Any, int], ShardSource] | None = None
    version: int = 1
    schema: Callable[[Any], Schema | None] | None = None
    earlier: tuple[int, ...] = ()

    def make_options(self, values: Mapping[str, Any]) -> Any:
        """Return the options of these names and values, the others as they are by default.

        Raises:
            ValueError: On an option that the source does not have, one that it needs, or a value
                of another type or out of range.
        """
        fields = dataclasses.fields(self.options)
        defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        return parse(self.options, {**defaults, **values}, "options")


def _downloaded(module: Any, version: int) -> Source:
    """Return the source of a published data set; data sets of earlier versions are still read."""
    return Source(
        module.Options,
        module.load,
        version=version,
        schema=module.known_schema,
        earlier=tuple(range(1, version)),
    )


SOURCES = {
    BUILT: Source(built.Options, built.load),
    "complete_journey": _downloaded(complete_journey, version=3),
    "movielens_1m": _downloaded(movielens_1m, version=2),
    "synthetic": Source(
        synthetic.Options,
        synthetic.load,
        synthetic_shards.shards,
        version=2,  # has weights of needs and transitions
        schema=synthetic.make_schema,
        earlier=(1,),
    ),
}
