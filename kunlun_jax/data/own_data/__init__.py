"""Data sets from tables of your own: impressions and events, as CSV or Parquet."""

from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.limits import Limits
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
from kunlun_jax.data.schema import DenseFeature, EventId, SparseFeature

__all__ = [
    "Built",
    "ByDate",
    "ByTime",
    "ByUser",
    "Cross",
    "DenseFeature",
    "EventId",
    "Events",
    "Hashed",
    "Limits",
    "Popularity",
    "SparseFeature",
    "TableSchema",
    "load_schema",
]
