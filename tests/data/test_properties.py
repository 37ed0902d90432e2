"""What holds for any schema and any data set, on examples that Hypothesis makes."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kunlun_jax.data import (
    BatchSource,
    Dataset,
    EventLog,
    Events,
    Request,
    Schema,
    batch_requests,
)
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.building.shards import shards_of_tables
from kunlun_jax.data.quality.consistency import validate_tables
from kunlun_jax.data.schema import COMBINERS, Limits
from kunlun_jax.data.sources.encoding import events_before
from kunlun_jax.layers.embedding import lookup
from tests.data import toy

SOURCE = {"name": "toy", "version": 1, "options": {}}
# The cases are small from the start: nothing is gained by looking for smaller ones.
QUICK = settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate])
OPTIONS = st.builds(
    toy.Options,
    num_users=st.integers(4, 12),
    num_train=st.integers(1, 60),
    num_eval=st.integers(0, 20),
    seed=st.integers(0, 2**31),
)
# What a schema takes; tests/data/test_names.py tries others.
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}9", fullmatch=True)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def schemas(draw):
    """A schema as JSON."""

    def named(fields, **options):
        names = draw(st.lists(NAMES, unique=True, max_size=3, **options))
        return [{"name": name, **{k: draw(v) for k, v in fields.items()}} for name in names]

    vocabularies = named({"num_ids": st.integers(0, 2**31 - 2)}, min_size=1)
    vocabulary = st.sampled_from([v["name"] for v in vocabularies])
    values = {"max_values": st.integers(1, 9), "combiner": st.sampled_from(COMBINERS)}
    sparse = named({"vocabulary": vocabulary, **values})
    used = [feature["name"] for feature in sparse]
    numbers = {"log1p": st.booleans(), "mean": NUMBERS, "std": NUMBERS}
    value = {
        "name": draw(NAMES),
        "vocabularies": vocabularies,
        "dense": [f for f in named(numbers) if f["name"] not in used],
        "sparse": sparse,
        "candidate": used[:1],
        "streams": [
            {
                **stream,
                "ids": named({"vocabulary": vocabulary}),
                "dense": [],
                "max_len": draw(st.integers(1, 10_000)),
            }
            for stream in named({})
        ],
        "labels": draw(st.lists(NAMES, unique=True, min_size=1, max_size=2)),
    }
    limits = dataclasses.asdict(Limits(drift=draw(NUMBERS))) | {"label_rate": [0.25, 0.5]}
    return value | ({"limits": limits} if draw(st.booleans()) else {})


@QUICK
@given(value=schemas())
def test_a_schema_survives_json(value):
    assert json.loads(json.dumps(Schema.from_json(value).to_json())) == value


def test_a_schema_of_before_a_field_has_its_default():
    value = toy.SCHEMA.to_json()
    assert "limits" not in value
    assert value["dense"][1].pop("std") == 1.0
    assert value["sparse"][0].pop("combiner") == "mean"
    assert Schema.from_json(value) == toy.SCHEMA


@QUICK
@given(options=OPTIONS, num_shards=st.integers(1, 5))
def test_shards_hold_every_user_and_example_once(options, num_shards):
    tables = toy.toy_tables(options)
    source = shards_of_tables(tables, num_shards)
    shards = [source.make(number) for number in range(num_shards)]
    users = np.concatenate([shard.users for shard in shards])
    assert sorted(users.tolist()) == list(range(options.num_users))
    for name, examples in tables.splits.items():
        rows = np.concatenate([shard.rows[name] for shard in shards])
        assert sorted(rows.tolist()) == list(range(len(examples)))
    for shard in shards:
        validate_tables(shard.tables)


@settings(QUICK, max_examples=10)
@given(options=OPTIONS, num_shards=st.integers(1, 5))
def test_what_is_written_is_read(tmp_path_factory, options, num_shards):
    tables = toy.toy_tables(options)
    directory = tmp_path_factory.mktemp("any") / "toy"
    write_dataset(tables, directory, source=SOURCE, num_shards=num_shards)
    dataset = Dataset.open(directory)
    for stream, log in tables.logs.items():
        np.testing.assert_array_equal(dataset.logs[stream].times, log.times)
        np.testing.assert_array_equal(dataset.logs[stream].dense, log.dense)
    for split, examples in tables.splits.items():
        np.testing.assert_array_equal(dataset.splits[split].dense, examples.dense)
        np.testing.assert_array_equal(dataset.splits[split].sparse["tags"], examples.sparse["tags"])
        np.testing.assert_array_equal(dataset.splits[split].ends["click"], examples.ends["click"])


@QUICK
@given(
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=20),
    requests=st.lists(st.tuples(st.integers(0, 3), st.integers(-6, 6)), max_size=10),
)
def test_histories_end_strictly_before_the_request(events, requests):
    events = sorted(events)
    sizes = [sum(user == u for u, _ in events) for user in range(4)]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    times = np.array([t for _, t in events], np.int64)
    log = EventLog(offsets, times, {}, np.zeros((len(times), 0), np.float32))
    users, moments = (np.array([r[i] for r in requests], np.int64) for i in (0, 1))
    expected = [sum(u == user and t < time for u, t in events) for user, time in requests]
    assert events_before(log, users, moments).tolist() == expected


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy.toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


def standardized(value, feature):
    """What the model is to see of a raw number."""
    if np.isnan(value):
        return 0.0
    value = np.sign(value) * np.log1p(abs(value)) if feature.log1p else value
    return (value - feature.mean) / feature.std


def assert_history(batch, position, dataset, split, row, stream, max_len):
    """Compare one history of a batch with the log, event by event."""
    examples, log = dataset.splits[split], dataset.logs[stream.name]
    user, now = int(examples.users[row]), int(examples.request_times[row])
    events = range(log.offsets[user], log.offsets[user + 1])
    past = [i for i in events if log.times[i] < now][-max_len:]
    found = batch.streams[stream.name]
    assert found.lengths[position] == len(past)
    padding = [0] * (max_len - len(past))
    assert found.ages[position].tolist() == [now - log.times[i] for i in past] + padding
    for feature in stream.ids:
        expected = [log.ids[feature.name][i] for i in past] + padding
        assert found.ids[feature.name][position].tolist() == expected
    for column, feature in enumerate(stream.dense):
        expected = [standardized(float(log.dense[i, column]), feature) for i in past] + padding
        np.testing.assert_allclose(found.dense[position, :, column], expected, rtol=2e-5, atol=2e-5)


@QUICK
@given(
    split=st.sampled_from(["train", "validation"]),
    batch_size=st.integers(1, 70),
    share=st.floats(0, 1, exclude_max=True),
    click=st.integers(1, 8),
    visit=st.integers(1, 4),
)
def test_a_batch_is_its_examples_one_by_one(dataset, split, batch_size, share, click, visit):
    max_lens = {"click": click, "visit": visit}
    source = BatchSource(
        dataset, split=split, batch_size=batch_size, max_lens=max_lens, shuffle=False
    )
    index = int(share * len(source))
    batch, examples = source[index], dataset.splits[split]
    for position in range(batch_size):
        row = index * batch_size + position
        if row >= len(examples):
            assert batch.weights[position] == 0.0
            continue
        assert batch.weights[position] == examples.weights[row]
        assert batch.user_ids[position] == examples.users[row]
        assert batch.labels[position].tolist() == examples.labels[row].tolist()
        for name, values in batch.sparse.items():
            assert values.ids[position].tolist() == examples.sparse[name][row].tolist()
            assert values.lengths[position] == examples.sparse_lengths[name][row]
        expected = [
            standardized(float(x), feature)
            for x, feature in zip(examples.dense[row], dataset.schema.dense, strict=True)
        ]
        np.testing.assert_allclose(batch.dense[position], expected, rtol=2e-5, atol=2e-5)
        for stream in dataset.schema.streams:
            assert_history(batch, position, dataset, split, row, stream, max_lens[stream.name])


@QUICK
@given(batch_size=st.integers(1, 70), epoch=st.integers(0, 10**6), seed=st.integers(0, 2**31))
def test_every_epoch_has_every_example_once(dataset, batch_size, epoch, seed):
    source = BatchSource(dataset, split="train", batch_size=batch_size, max_lens={}, seed=seed)
    first, count = epoch * source.num_examples, source.num_examples
    numbers = range(first // batch_size, -(-(first + count) // batch_size))
    users = np.concatenate([source[number].user_ids for number in numbers])
    skipped = first - numbers[0] * batch_size
    expected = np.sort(dataset.splits["train"].users)
    np.testing.assert_array_equal(np.sort(users[skipped : skipped + count]), expected)


TABLE = np.arange(21, dtype=np.float32).reshape(7, 3) + 1
NEAR, ANY = st.integers(-2, 9), st.integers(-(2**31), 2**31 - 1)


def row_of(number):
    """The row that an id gets."""
    return number if 0 < number < len(TABLE) else 0


@QUICK
@given(ids=st.lists(NEAR | ANY, min_size=6, max_size=6))
def test_lookup_gives_any_id_its_row_or_the_one_of_the_unknown(ids):
    found = lookup(jnp.asarray(TABLE), jnp.asarray(ids, jnp.int32), len(TABLE))
    np.testing.assert_array_equal(found, [TABLE[row_of(number)] for number in ids])


@QUICK
@given(ids=st.lists(st.integers(-2, 16) | st.integers(-(2**70), 2**70), max_size=9))
def test_requests_give_any_id_its_row_or_the_one_of_the_unknown(dataset, ids):
    clicks = Events(times=range(len(ids)), ids={"item": ids, "tag": ids})
    request = Request(10**9, sparse={"tags": ids}, events={"click": clicks})
    batch = batch_requests([request], dataset.schema, max_lens={"click": 8})
    for found, kept, rows in (
        (batch.sparse["tags"].ids, ids[:3], toy.NUM_TAGS),
        (batch.streams["click"].ids["item"], ids[-8:], toy.NUM_ITEMS),
        (batch.streams["click"].ids["tag"], ids[-8:], toy.NUM_TAGS),
    ):
        expected = [number if 0 < number <= rows else 0 for number in kept]
        assert found[0].tolist() == expected + [0] * (found.shape[1] - len(expected))
