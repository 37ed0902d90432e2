"""Scores whole tables, or a split of a run's data set, into one file."""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from tqdm import tqdm

from kunlun_jax.data.building.directory import SCRATCH, building, building_right
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.format import DatasetError
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.requests import Place, RequestTables
from kunlun_jax.data.own_data.shards import BYTES_PER_SHARD
from kunlun_jax.data.own_data.stored_schema import stored_schema
from kunlun_jax.data.own_data.table_schema import TableSchema
from kunlun_jax.data.reading.gather import Columns
from kunlun_jax.data.reading.pipeline import BatchSource
from kunlun_jax.files import discard_parts, part_of, settle
from kunlun_jax.serving.predictor import BatchPredictor
from kunlun_jax.serving.trained import Trained

SUFFIXES = (".parquet", ".csv")


def table_schema(trained: Trained) -> TableSchema:
    """Return what the columns mean of the tables that a run was trained on.

    Args:
        trained: The model.

    Raises:
        DatasetError: If it was trained on something else.
    """
    if not trained.has_keys:
        raise DatasetError(
            f"--impressions: expected a run on tables of one's own, got one on data source "
            f"{trained.manifest['source']['name']!r}; --split scores its own data"
        )
    schema = stored_schema(trained.manifest["source"]["options"])
    # What was counted, whatever is counted by default now: nothing in data sets of before.
    counted = {"cross": trained.schema.cross, "popularity": trained.schema.popularity}
    return dataclasses.replace(schema, **counted)


def predict_tables(
    trained: Trained,
    inputs: Inputs,
    out: pathlib.Path,
    *,
    keep: Sequence[str] = (),
    workers: int = 1,
    memory_gb: float = 4.0,
) -> int:
    """Score every row of a table of impressions; returns how many there are.

    What is interrupted goes on where it was, to the same bytes, when the same is asked again.

    Args:
        trained: The model, of a run on tables.
        inputs: The files of the impressions, without labels, and of the events of every stream.
        out: The new file, Parquet or CSV by its name: in the order of the input, the columns of
            user, time and candidate as they are there, those to keep, and score_TASK for every
            task.
        keep: More columns of the impressions.
        workers: Threads that read tables.
        memory_gb: Memory of joins and sorts before they use the disk; besides, a piece of the
            tables, of users of 64 MB of input, is in memory at a time.

    Raises:
        DatasetError: If the run is not one on tables, or the file exists.
        SchemaError: If the tables are not what the schema says; names file, row and column.
        OSError: If something cannot be read or written.
    """
    schema, out = table_schema(trained), out.absolute()
    names = _score_names(trained)
    columns = list(dict.fromkeys([schema.user, schema.time, *schema.candidate, *keep]))
    _check_out(out, columns, names)
    inputs.check_exist(schema)
    num_shards = max(1, -(-inputs.num_bytes // BYTES_PER_SHARD))
    files = {
        name: trained.metadata / entry["name"]
        for name, entry in trained.manifest.get("vocabularies", {}).items()
    }
    plan = {
        "checkpoint": trained.checksum,
        "inputs": inputs.checksums(),
        "keep": columns,
        "num_shards": num_shards,
        "out": out.suffix,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")},
        "device": jax.devices()[0].device_kind,
    }
    with building_right(out, keep=False):
        _refuse_existing(out)
        result = f"scores{out.suffix.lower()}"
        with building(out, plan, file=result) as place:
            tables = RequestTables(
                schema,
                inputs,
                place,
                vocabularies=files,
                keep=columns,
                num_shards=num_shards,
                threads=workers,
                memory_gb=memory_gb,
            )
            try:
                scored = _score_shards(trained, tables, place / SCRATCH)
                tables.write(scored, names, place / result)
            finally:
                tables.close()
            return sum(pq.read_metadata(path).num_rows for path in scored)


def _score_shards(
    trained: Trained, tables: RequestTables, scratch: pathlib.Path
) -> list[pathlib.Path]:
    """Score the requests of every shard that is not scored yet; returns the files of scores."""
    predictor, found = BatchPredictor(trained), []
    for number in tqdm(range(tables.num_shards), desc="scoring", unit="shard"):
        path = scratch / f"scores-{number:06d}.parquet"
        if not path.exists():
            discard_parts(path)
            columns, place = tables.shard(number, trained.schema, trained.max_lens)
            scores = _score(trained, predictor, columns)
            part = part_of(path)
            pq.write_table(_table(trained, scores, place), part)
            settle(part, path)
        found.append(path)
    return found


def _score(trained: Trained, predictor: BatchPredictor, columns: Columns) -> np.ndarray:
    count, size = len(columns.examples), predictor.batch_size
    found = [np.empty((0, len(trained.schema.labels)))]
    for first in range(0, count, size):
        position = np.arange(first, first + size)
        rows = np.minimum(position, count - 1)
        batch = columns.batch(rows, position < count, trained.max_lens)
        found.append(predictor.predict(batch))
    return np.concatenate(found)


def _table(trained: Trained, scores: np.ndarray, place: Place) -> pa.Table:
    values = dict(zip(_score_names(trained), scores.T, strict=True))
    return pa.table({"file": place.files, "place": place.rows, **values})


def predict_split(trained: Trained, dataset: Dataset, split: str, out: pathlib.Path) -> int:
    """Score every example of a split, in its order; returns how many there are.

    Args:
        trained: The model.
        dataset: The data set of its run.
        split: "train", "validation" or "test".
        out: The new file, Parquet or CSV by its name: row, user (numbers of the data set), time,
            the features of the candidate (values where the run keeps the vocabulary, else
            numbers), label_TASK and score_TASK for every task.

    Raises:
        DatasetError: If the file exists.
        OSError: If it cannot be written.
    """
    predictor, out = BatchPredictor(trained), out.absolute()
    _check_out(out, [], _score_names(trained))
    _refuse_existing(out)
    source = BatchSource(
        dataset,
        split=split,
        batch_size=predictor.batch_size,
        max_lens=trained.max_lens,
        shuffle=False,
    )
    discard_parts(out)
    part, writer, count = part_of(out), None, 0
    try:
        for index in tqdm(range(len(source)), desc="scoring", unit="batch"):
            rows = index * source.batch_size + np.arange(source.batch_size)
            real = rows < source.num_examples
            weights = real.astype(np.float32)  # of a weight of 0, too
            batch = dataclasses.replace(source[index], weights=weights)
            table = _split_table(trained, dataset, split, rows[real], predictor.predict(batch))
            writer = writer or _writer(part, out.suffix, table.schema)
            writer.write_table(table)
            count += table.num_rows
        if writer is not None:
            writer.close()
            settle(part, out)
    finally:
        part.unlink(missing_ok=True)
    return count


def _split_table(
    trained: Trained, dataset: Dataset, split: str, rows: np.ndarray, scores: np.ndarray
) -> pa.Table:
    examples, schema = dataset.splits[split].take(rows), trained.schema
    values: dict[str, Any] = {
        "row": rows, "user": examples.users, "time": examples.request_times
    }  # fmt: skip
    for feature in schema.sparse:
        if feature.name in schema.candidate:
            known = trained.vocabularies.get(feature.vocabulary)
            lengths = examples.sparse_lengths[feature.name]
            cells = [
                [known[i - 1] if i else None for i in ids[:n]] if known else ids[:n].tolist()
                for ids, n in zip(examples.sparse[feature.name], lengths, strict=True)
            ]
            if feature.max_values > 1:
                values[feature.name] = ["|".join(map(str, cell)) for cell in cells]
            else:
                values[feature.name] = pa.array([cell[0] if cell else None for cell in cells])
    values |= {f"label_{task}": examples.labels[:, i] for i, task in enumerate(schema.labels)}
    values |= dict(zip(_score_names(trained), scores.T, strict=True))
    return pa.table(values)


def _writer(path: pathlib.Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix.lower() == ".csv":
        return pyarrow.csv.CSVWriter(path, schema)
    return pq.ParquetWriter(path, schema)


def _score_names(trained: Trained) -> list[str]:
    return [f"score_{task}" for task in trained.schema.labels]


def _check_out(out: pathlib.Path, columns: Sequence[str], names: Sequence[str]) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise DatasetError(f"{out}: expected a file of the name .parquet or .csv")
    both = sorted(set(columns) & set(names))
    if both:
        raise DatasetError(f"--keep: expected columns that are no scores, got {both[0]!r}")


def _refuse_existing(out: pathlib.Path) -> None:
    if out.exists():
        raise DatasetError(f"{out}: exists already; remove it or choose another file")
