"""Data: schema -> sources -> build (ArrayRecord) -> pipeline (Grain) -> Batch."""

from kunlun_jax.data.batch import Batch, EventBatch, SparseBatch
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.reading.pipeline import BatchSource, make_train_iterator
from kunlun_jax.data.reading.requests import Events, Request, RequestError, batch_requests
from kunlun_jax.data.schema import (
    DenseFeature,
    EventId,
    EventStream,
    Schema,
    SchemaError,
    SparseFeature,
    Vocabulary,
)
from kunlun_jax.data.tables import EventLog, Examples, SourceTables

__all__ = [
    "Batch",
    "BatchSource",
    "Dataset",
    "DatasetError",
    "DenseFeature",
    "EventBatch",
    "EventId",
    "EventLog",
    "EventStream",
    "Events",
    "Examples",
    "Request",
    "RequestError",
    "Schema",
    "SchemaError",
    "SourceTables",
    "SparseBatch",
    "SparseFeature",
    "Vocabulary",
    "batch_requests",
    "make_train_iterator",
]
