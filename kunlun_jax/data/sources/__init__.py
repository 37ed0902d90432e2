"""Sources of data sets: each reads or generates one and returns `SourceTables`."""

from kunlun_jax.data.sources.registry import SOURCES, Source

__all__ = ["SOURCES", "Source"]
