"""Small tables with every corner, and what a data set of them has to hold, told in plain Python."""

import collections
import csv
import pathlib

import numpy as np
import pyarrow.parquet as pq

from kunlun_jax.data import Dataset, DenseFeature, EventId, SparseFeature
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.cross import columns_of
from kunlun_jax.data.own_data import Built, ByUser, Events, Hashed, TableSchema
from kunlun_jax.data.own_data.inputs import Inputs
from tests.data.cross_oracle import cross_feature

START = 1_600_000_000
SCHEMA = TableSchema(
    name="world",
    user="who",
    sparse=(
        "item",
        SparseFeature("tags", "tag", max_values=2, combiner="sum"),
        "site",
    ),
    candidate=("item",),
    dense=(DenseFeature("price", log1p=True),),
    labels=("click", "buy"),
    weight="importance",
    streams=(
        Events(
            "view",
            ids=("item", EventId("tag", "tag")),
            dense=("amount",),
            max_len=4,
            user="user",
            time="time",
        ),
        Events("order", ids=("item",), time="at", user="buyer", where="state = 'paid'"),
    ),
    vocabularies={"item": Built(min_count=2), "site": Hashed(5)},
)


def make_tables(seed, *, num_users=12, num_requests=80, num_events=60, stride=1):
    """Rows of every table as dictionaries of text, as CSV has them; few moments, so many ties.

    The moments are `stride` seconds apart.
    """
    rng = np.random.default_rng(seed)

    def pick(values):
        return str(values[rng.integers(len(values))])

    def user():
        return f"u{rng.integers(num_users)}"

    def moment():
        return str(START + stride * int(rng.integers(40)))

    impressions = [
        {
            "who": user(),
            "time": moment(),
            "item": pick(["1", "2", "3", "4", "x y", 'q"uote', ""]),
            "tags": pick(["a", "a|b", "c|a|b", "", "rare"]),
            "site": pick(["s1", "s2", ""]),
            "price": pick(["1.5", "", "0", "-3", "nan"]),
            "click": pick(["0", "1", "true", "False"]),
            "buy": pick(["0", "1"]),
            "importance": pick(["1", "0.5"]),
        }
        for _ in range(num_requests)
    ]
    views = [
        {
            "user": user(),
            "time": moment(),
            "item": pick(["1", "2", "5", ""]),
            "tag": pick(["a", "d"]),
            "amount": pick(["2", ""]),
        }
        for _ in range(num_events)
    ]
    orders = [
        {"buyer": user(), "at": moment(), "item": pick(["1", "9"]), "state": pick(["paid", "open"])}
        for _ in range(num_events)
    ]
    strangers = [{**row, "user": "stranger"} for row in views[:3]]
    return {"impressions": impressions, "view": views + strangers, "order": orders}


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tables(directory: pathlib.Path, tables) -> Inputs:
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_csv(directory / f"{name}.csv", rows)
    return Inputs({name: (directory / f"{name}.csv",) for name in tables})


def build(directory: pathlib.Path, tables, *, schema=SCHEMA, **options) -> Dataset:
    inputs = write_tables(directory / "tables", tables)
    build_own_data(schema, inputs, directory / "built", **{"num_shards": 3, **options})
    return Dataset.open(directory / "built")


def expected_examples(tables, schema=SCHEMA):
    """By split, a counter of examples with everything a model would see, values in place of ids."""
    rows = tables["impressions"]
    splits = _splits(rows, schema)
    known = _vocabularies(tables, splits, schema)
    result = {name: collections.Counter() for name in ("train", "validation", "test")}
    columns = columns_of((*schema.crosses, *schema.popularities))
    streams = {events.name: _raw_events(events, tables) for events in schema.streams}
    for row, split in zip(rows, splits, strict=True):
        histories = []
        for events in schema.streams:
            past = [
                (int(e[events.time]), *_event(events, e, known))
                for e in tables[events.name]
                if e[events.user] == row["who"] and int(e[events.time]) < int(row["time"])
                and (not events.where or e["state"] == "paid")
            ]  # fmt: skip
            histories.append(tuple(sorted(past, key=repr)))
        tags = [t for t in row["tags"].split("|")[:2] if t]
        result[split][
            (
                row["who"],
                int(row["time"]),
                (float(row["click"].lower() in ("1", "true")), float(row["buy"])),
                float(row["importance"]),
                _number(row["price"]),
                _value(row["item"], known["item"], missing=()),
                tuple(t if t in known["tag"] else None for t in tags),
                bool(row["site"]),
                tuple(_cross(column, streams, row, known) for column in columns),
                *histories,
            )
        ] += 1
    return result


def _raw_events(events, tables):
    """The events of a stream, also of strangers, as (user, time, values); None is no value."""
    names = [f.name for f in events.stream.ids]
    return [
        (e[events.user], int(e[events.time]), {name: e[name] or None for name in names})
        for e in tables[events.name]
        if not events.where or e["state"] == "paid"
    ]


def _cross(column, streams, row, known):
    """A cross feature of an impression: of values, or for the user's own of those that have ids."""
    value, events = row["item"] or None, streams[column.stream]
    if column.kind != "popularity":
        value = value if value in known["item"] else None
    found = cross_feature(column, events, (row["who"], int(row["time"]), {"item": value}))
    return _number(np.float32(found))


def found_examples(dataset: Dataset, tables):
    """The same, as the data set has it."""
    users = sorted({row["who"] for row in tables["impressions"]})
    values = {name: _read_vocabulary(dataset, name) for name in ("item", "tag")}
    result = {}
    for split, examples in dataset.splits.items():
        counter = result[split] = collections.Counter()
        for i, user in enumerate(examples.users):
            histories = []
            for name, log in dataset.logs.items():
                part = slice(log.offsets[user], log.offsets[user] + examples.ends[name][i])
                columns = [values["item" if f == "item" else "tag"] for f in log.ids]
                past = [
                    (
                        int(log.times[k]),
                        *(v[ids[k]] for v, ids in zip(columns, log.ids.values(), strict=True)),
                        *(_number(x) for x in log.dense[k]),
                    )
                    for k in range(part.start, part.stop)
                ]
                histories.append(tuple(sorted(past, key=repr)))
            lengths = {n: int(lengths[i]) for n, lengths in examples.sparse_lengths.items()}
            item = values["item"][examples.sparse["item"][i, 0]] if lengths["item"] else ()
            tags = examples.sparse["tags"][i, : lengths["tags"]]
            counter[
                (
                    users[user],
                    int(examples.request_times[i]),
                    tuple(float(x) for x in examples.labels[i]),
                    float(examples.weights[i]),
                    _number(examples.dense[i, 0]),
                    item,
                    tuple(values["tag"][t] for t in tags),
                    bool(lengths["site"]),
                    tuple(_number(x) for x in examples.dense[i, 1:]),
                    *histories,
                )
            ] += 1
    return result


def _splits(rows, schema):
    assert not isinstance(schema.split, ByUser)
    times = sorted(int(row["time"]) for row in rows)
    shares = (schema.split.validation + schema.split.test, schema.split.test)
    bounds = [times[int(len(times) * (1.0 - share))] for share in shares]
    return [
        ("train", "validation", "test")[sum(int(row["time"]) >= b for b in bounds)] for row in rows
    ]


def _vocabularies(tables, splits, schema):
    """Values that are often enough in training requests, and in events of before its end."""
    train = [r for r, s in zip(tables["impressions"], splits, strict=True) if s == "train"]
    end = min(
        int(r["time"])
        for r, s in zip(tables["impressions"], splits, strict=True)
        if s == "validation"
    )
    users = {row["who"] for row in tables["impressions"]}
    counts = {"item": collections.Counter(), "tag": collections.Counter()}
    counts["item"].update(r["item"] for r in train)
    counts["tag"].update(t for r in train for t in r["tags"].split("|")[:2])
    for events in schema.streams:
        for e in tables[events.name]:
            paid = not events.where or e["state"] == "paid"
            if e[events.user] in users and int(e[events.time]) < end and paid:
                for name in counts.keys() & e.keys():
                    counts[name][e[name]] += 1
    least = {name: schema.vocabulary(name).min_count for name in counts}
    return {
        name: {v for v, n in counter.items() if v and n >= least[name]}
        for name, counter in counts.items()
    }


def _event(events, row, known):
    ids = [f.name for f in events.stream.ids]
    return (
        *(_value(row[name], known[name], missing=None) for name in ids),
        *(_number(row[f.name]) for f in events.stream.dense),
    )


def _value(text, known, *, missing):
    return missing if not text else (text if text in known else None)


def _number(value):
    return None if value in ("", "nan") or np.isnan(float(value)) else float(value)


def _read_vocabulary(dataset, name):
    entry = dataset.manifest["vocabularies"][name]
    table = pq.read_table(dataset.directory / entry["name"])
    values = dict(zip(table["id"].to_pylist(), table["value"].to_pylist(), strict=True))
    return {0: None, **values}
