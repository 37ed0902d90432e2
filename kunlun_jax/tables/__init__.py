"""Embedding tables: where rows lie, how a batch gets its own, and how a step updates them."""

from kunlun_jax.tables.batch_ids import count_out_of_vocabulary
from kunlun_jax.tables.layout import stored_rows
from kunlun_jax.tables.lookup import lookup
from kunlun_jax.tables.state import TableState, TouchedRows

__all__ = ["TableState", "TouchedRows", "count_out_of_vocabulary", "lookup", "stored_rows"]
