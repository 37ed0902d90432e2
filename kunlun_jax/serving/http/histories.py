"""Histories by user, in memory: a run keeps none, so they are read from tables or its data set."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.reading import plan_readings
from kunlun_jax.data.own_data.staging import latest_moment
from kunlun_jax.data.own_data.stored_schema import stored_schema
from kunlun_jax.data.reading.request_values import known_ids
from kunlun_jax.data.reading.requests import Events, Request
from kunlun_jax.data.schema import EventStream
from kunlun_jax.serving.keys import Keys, key_text
from kunlun_jax.serving.trained import Trained
from kunlun_jax.training.run_data import find_dataset


@dataclasses.dataclass(frozen=True)
class Log:
    """The events of one stream, user by user, in order of time.

    Attributes:
        users: Number of every user by key.
        offsets: int64 [users + 1], where the events of each begin.
        times: int64 [events], Unix seconds.
        ids: By event id, [events]: texts, or the data set's numbers.
        dense: By attribute, float32 [events].
    """

    users: dict[str, int]
    offsets: np.ndarray
    times: np.ndarray
    ids: dict[str, Any]
    dense: dict[str, np.ndarray]


class Histories:
    """Histories of all users that are known."""

    def __init__(self, logs: dict[str, Log]) -> None:
        """Hold the logs by stream."""
        self._logs = logs

    def of(self, user: int | str | bool) -> dict[str, Events]:
        """Return the events of a user by stream; nothing, of one who is not known."""
        key, found = key_text(user, "user"), {}
        for name, log in self._logs.items():
            number = log.users.get(key or "")
            if number is not None:
                rows = slice(log.offsets[number], log.offsets[number + 1])
                ids = {feature: column[rows] for feature, column in log.ids.items()}
                found[name] = Events(
                    times=log.times[rows],
                    ids={
                        n: x.to_pylist() if isinstance(x, pa.Array) else x for n, x in ids.items()
                    },
                    dense={feature: column[rows] for feature, column in log.dense.items()},
                )
        return found


def read_histories(trained: Trained, workdir: pathlib.Path, given: Sequence[str]) -> Histories:
    """Read the histories that a server has.

    Args:
        trained: The model.
        workdir: Of its run.
        given: "STREAM=FILES" for every stream, of a run on tables, whose users have the keys of the
            tables; else one directory, of the run's data set, whose users are numbers.

    Raises:
        DatasetError: If it is not the run's data set.
        SchemaError: If the tables are not what the schema says; names file, row and column.
        ImportError: If DuckDB is missing, which reads tables.
        OSError: If something cannot be read.
    """
    if trained.has_keys:
        return Histories(_of_tables(trained, given))
    if len(given) > 1:
        raise DatasetError(f"--histories: expected the data set's directory, got {given[1]!r} too")
    place = find_dataset(workdir, trained.config.data.directory, given[0])
    found = {}
    for name, log in Dataset.open(place).logs.items():
        users = {str(user): user for user in range(len(log.offsets) - 1)}
        dense = dict(zip(_names(trained.schema.stream_by_name[name]), log.dense.T, strict=True))
        found[name] = Log(users, log.offsets, log.times, log.ids, dense)
    return Histories(found)


def _of_tables(trained: Trained, given: Sequence[str]) -> dict[str, Log]:
    """Read tables as a build does, with all of its checks, and sort them by user and time."""
    schema = stored_schema(trained.manifest["source"]["options"])
    inputs = Inputs.parse(schema, None, list(given))
    found = {}
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        (place / SCRATCH).mkdir()
        engine = Engine(place / SCRATCH, threads=1, memory_gb=1.0)
        try:
            for reading in plan_readings(engine, schema, inputs, place, latest_moment()):
                reading.count(engine)
                rows, sorted_rows = reading.typed(engine), place / f"{reading.number}.parquet"
                engine.copy(f"SELECT * FROM ({rows}) ORDER BY key", sorted_rows, in_order=True)
                stream = trained.schema.stream_by_name[reading.name]
                found[reading.name] = _log(trained, pq.read_table(sorted_rows), stream)
        finally:
            engine.close()
    return found


def _log(trained: Trained, table: pa.Table, stream: EventStream) -> Log:
    """Return the events of a table that is sorted by user, in the order that a data set has."""
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    users = columns["key"].value_counts()  # in the order in which they come
    counts, times = users.field("counts").to_numpy(), columns["time"].to_numpy()
    ids = {feature.name: columns[f"s{i}"] for i, feature in enumerate(stream.ids)}
    dense = [columns[f"d{i}"].fill_null(np.nan).to_numpy() for i, _ in enumerate(stream.dense)]
    texts = Events(times, {name: column.to_pylist() for name, column in ids.items()})
    keys = Keys(trained.schema, trained.vocabularies)
    known = keys.numbered(Request(0, events={stream.name: texts}), "histories").events[stream.name]
    numbers = [
        known_ids(known.ids[f.name], f.vocabulary, trained.schema, f"histories: {f.name!r}")
        for f in stream.ids
    ]
    order = np.lexsort(
        [*reversed([np.repeat(np.arange(len(users)), counts), times, *numbers, *dense])]
    )
    return Log(
        users={key: number for number, key in enumerate(users.field("values").to_pylist())},
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        times=times[order],
        ids={name: column.take(pa.array(order)) for name, column in ids.items()},
        dense=dict(zip(_names(stream), [column[order] for column in dense], strict=True)),
    )


def _names(stream: EventStream) -> list[str]:
    return [feature.name for feature in stream.dense]
