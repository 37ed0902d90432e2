"""A tiny data set with every corner of the schema, for tests of anything that needs one.

    tables = toy_tables()                                       # SourceTables
    dataset = toy_dataset(tmp_path / "toy")                     # built and opened
    tables = counted(tables)                                    # with cross features

User 0 never has an event; the earliest requests have no history; `tags` has 0 .. 3 values;
`price` is NaN now and then; two tasks. Labels depend on the candidate and on the newest click,
so that a model can learn something.
"""

import dataclasses
import pathlib

import numpy as np

from kunlun_jax.data import (
    Dataset,
    DenseFeature,
    EventId,
    EventLog,
    EventStream,
    Examples,
    Schema,
    SourceTables,
    SparseFeature,
    Vocabulary,
)
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.counting import popularity_columns, with_columns
from kunlun_jax.data.cross import Cross, Popularity
from kunlun_jax.data.schema import derived_features

NUM_ITEMS = 13
NUM_TAGS = 5
DAY = 24 * 3600
START = 1_500_000_000
MAX_LENS = {"click": 6, "visit": 3}
SCHEMA = Schema(
    name="toy",
    vocabularies=(
        Vocabulary("item", NUM_ITEMS),
        Vocabulary("tag", NUM_TAGS),
        Vocabulary("user", 8),
    ),
    dense=(DenseFeature("price", log1p=True), DenseFeature("hour")),
    sparse=(
        SparseFeature("user", "user"),
        SparseFeature("item", "item"),
        SparseFeature("tags", "tag", max_values=3, combiner="sum"),
    ),
    candidate=("item",),
    streams=(
        EventStream(
            "click",
            (EventId("item", "item"), EventId("tag", "tag")),
            (DenseFeature("amount", log1p=True), DenseFeature("score")),
            max_len=8,
        ),
        EventStream("visit", (EventId("tag", "tag"),), max_len=4),
    ),
    labels=("click", "buy"),
)


CROSS = (Cross("click", ("item",), (1,)), Cross("visit"))
POPULARITY = (Popularity("click", ("item",), (1, 2)),)
COUNTED_SCHEMA = dataclasses.replace(
    SCHEMA,
    dense=(*SCHEMA.dense, *derived_features((*CROSS, *POPULARITY))),
    cross=CROSS,
    popularity=POPULARITY,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the toy source."""

    num_users: int = 9
    num_train: int = 203
    num_eval: int = 37
    seed: int = 0


def toy_tables(options: Options | None = None) -> SourceTables:
    """Make the toy data set in memory."""
    options = options or Options()
    rng = np.random.default_rng(options.seed)
    logs = {stream.name: _log(rng, stream, options.num_users) for stream in SCHEMA.streams}
    sizes = {
        "train": options.num_train,
        "validation": options.num_eval,
        "test": options.num_eval + 4,
    }
    splits = {
        name: _examples(rng, count, day, options.num_users, logs)
        for day, (name, count) in enumerate(sizes.items())
    }
    return SourceTables(SCHEMA, options.num_users, logs, splits, {"toy": "0" * 64})


def counted(tables: SourceTables) -> SourceTables:
    """Add the cross features of `COUNTED_SCHEMA`, of ids."""
    log, splits = tables.logs["click"], {}
    for name, examples in tables.splits.items():
        keys = {"item": (log.ids["item"] - 1, examples.sparse["item"][:, 0] - 1)}
        (declared,) = POPULARITY
        popularity = popularity_columns(declared, log.times, keys, examples.request_times)
        splits[name] = with_columns(examples, COUNTED_SCHEMA, tables.logs, popularity)
    return dataclasses.replace(tables, schema=COUNTED_SCHEMA, splits=splits)


def toy_dataset(
    directory: pathlib.Path, options: Options | None = None, tables: SourceTables | None = None
) -> Dataset:
    """Build the toy data set, or other tables, in a new directory and open it."""
    options = options or Options()
    source = {"name": "toy", "version": 1, "options": dataclasses.asdict(options)}
    write_dataset(tables or toy_tables(options), directory, source=source, num_shards=3)
    return Dataset.open(directory)


def _log(rng: np.random.Generator, stream: EventStream, num_users: int) -> EventLog:
    sizes = rng.integers(0, 50, num_users)
    sizes[0] = 0
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    total = int(offsets[-1])
    user = np.repeat(np.arange(num_users), sizes)
    # Hours, so that several events share a moment.
    times = START + DAY // 4 + rng.integers(0, 54, total) * 3600
    times = times[np.lexsort((times, user))]
    rows = {f.name: SCHEMA.vocabulary_by_name[f.vocabulary].num_rows for f in stream.ids}
    ids = {name: rng.integers(0, n, total).astype(np.int32) for name, n in rows.items()}
    dense = rng.normal(2.0, 3.0, (total, len(stream.dense))).astype(np.float32)
    return EventLog(offsets, times, ids, dense)


def _examples(
    rng: np.random.Generator, count: int, day: int, num_users: int, logs: dict[str, EventLog]
) -> Examples:
    users = rng.integers(0, num_users, count).astype(np.int32)
    times = np.sort(START + (3 * day * DAY + rng.integers(0, 72, count) * 3600) // 2)
    ends = {}
    for name, log in logs.items():
        pairs = zip(users, times, strict=True)
        ends[name] = np.array(
            [(log.times[log.offsets[u] : log.offsets[u + 1]] < t).sum() for u, t in pairs],
            dtype=np.int32,
        )
    item = rng.integers(0, NUM_ITEMS + 1, (count, 1)).astype(np.int32)
    num_tags = rng.integers(0, 4, count).astype(np.int32)
    tags = rng.integers(1, NUM_TAGS + 1, (count, 3)).astype(np.int32)
    price = rng.lognormal(1.0, 1.0, count)
    price[rng.random(count) < 0.1] = np.nan
    click = logs["click"]
    newest = np.where(ends["click"] > 0, click.offsets[users] + ends["click"] - 1, 0)
    same = (click.ids["item"][newest] % 2 == item[:, 0] % 2) & (ends["click"] > 0)
    clicked = rng.random(count) < np.where(same, 0.7, 0.2)
    bought = clicked & (rng.random(count) < 0.5)
    ones = np.ones(count, dtype=np.int32)
    return Examples(
        users=users,
        request_times=times,
        labels=np.stack([clicked, bought], axis=1).astype(np.float32),
        weights=rng.choice([1.0, 2.0], count).astype(np.float32),
        dense=np.stack([price, times // 3600 % 24], axis=1).astype(np.float32),
        sparse={
            "user": np.where(users > 1, np.minimum(users, 8), 0)[:, None].astype(np.int32),
            "item": item,
            "tags": np.where(np.arange(3) < num_tags[:, None], tags, 0).astype(np.int32),
        },
        sparse_lengths={"user": (users > 1).astype(np.int32), "item": ones, "tags": num_tags},
        ends=ends,
    )
