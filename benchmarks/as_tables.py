"""A data set as tables of one's own: so that data of any source can come day by day."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data import Dataset
from kunlun_jax.data.own_data import Events, TableSchema
from kunlun_jax.data.own_data.table_schema import IMPRESSIONS
from kunlun_jax.data.tables import EventLog, Examples

USER, TIME, WEIGHT = "user_key", "at", "example_weight"


def write_tables(dataset: Dataset, directory: pathlib.Path) -> TableSchema:
    """Write impressions and events of a data set as Parquet, and return what the columns mean.

    Ids become texts, and out of vocabulary nothing; computed features are left out, and are
    computed again by a build.

    Args:
        dataset: The data set, its ids numbered.
        directory: Where `impressions.parquet`, in the order of time, and STREAM.parquet go.

    Raises:
        ValueError: If ids are hashes: they do not say what they were.
    """
    schema = dataset.schema
    if any(v.hashes for v in schema.vocabularies):
        raise ValueError(f"{dataset.directory}: expected numbered ids, got hashed ones")
    directory.mkdir(parents=True, exist_ok=True)
    impressions = pa.concat_tables(
        [_impressions(dataset, examples) for examples in dataset.splits.values()]
    )
    pq.write_table(impressions.sort_by(TIME), directory / f"{IMPRESSIONS}.parquet")
    for stream in schema.streams:
        names = [feature.name for feature in stream.dense]
        events = _events(dataset.logs[stream.name], names)
        pq.write_table(events, directory / f"{stream.name}.parquet")
    return TableSchema(
        name=schema.name,
        user=USER,
        time=TIME,
        weight=WEIGHT,
        labels=schema.labels,
        sparse=schema.sparse,
        candidate=schema.candidate,
        dense=schema.dense[: len(schema.dense) - len(schema.derived)],
        streams=tuple(Events(s.name, s.ids, s.dense, s.max_len) for s in schema.streams),
        limits=schema.limits,
        cross=schema.cross,
        popularity=schema.popularity,
    )


def _impressions(dataset: Dataset, examples: Examples) -> pa.Table:
    schema = dataset.schema
    columns = {
        USER: _text(examples.users + 1),
        TIME: examples.request_times,
        WEIGHT: examples.weights,
    }
    for feature in schema.sparse:
        ids = examples.sparse[feature.name]
        if feature.max_values == 1:
            known = np.where(examples.sparse_lengths[feature.name] > 0, ids[:, 0], 0)
            columns[feature.name] = _text(known)
        else:
            lengths = examples.sparse_lengths[feature.name]
            cells = zip(ids.tolist(), lengths.tolist(), strict=True)
            columns[feature.name] = pa.array(
                [[str(x) for x in row[:n] if x] for row, n in cells], pa.list_(pa.string())
            )
    for i, feature in enumerate(schema.dense[: len(schema.dense) - len(schema.derived)]):
        columns[feature.name] = pa.array(examples.dense[:, i], from_pandas=True)
    columns |= {n: examples.labels[:, i].astype(np.int8) for i, n in enumerate(schema.labels)}
    return pa.table(columns)


def _events(log: EventLog, names: list[str]) -> pa.Table:
    users = np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets))
    columns = {USER: _text(users + 1), TIME: log.times}
    columns |= {name: _text(ids) for name, ids in log.ids.items()}
    columns |= {n: pa.array(log.dense[:, i], from_pandas=True) for i, n in enumerate(names)}
    return pa.table(columns)


def _text(ids: np.ndarray) -> pa.Array:
    return pa.array(ids, pa.int64(), mask=ids == 0).cast(pa.string())
