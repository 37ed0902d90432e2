"""Data sets from tables of your own: impressions and events, as CSV or Parquet."""

from kunlun_jax.data.own_data.table_schema import (
    Built,
    ByDate,
    ByTime,
    ByUser,
    Events,
    Hashed,
    TableSchema,
    load_schema,
)

__all__ = [
    "Built",
    "ByDate",
    "ByTime",
    "ByUser",
    "Events",
    "Hashed",
    "TableSchema",
    "load_schema",
]
