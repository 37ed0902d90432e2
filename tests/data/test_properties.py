"""What holds for any schema and any data set, on examples that Hypothesis makes."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kunlun_jax.data import (
    BatchSource,
    Dataset,
    Schema,
)
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.consistency import validate_tables
from kunlun_jax.data.schema import COMBINERS, Limits
from kunlun_jax.data.shards import shards_of_tables
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
NAMES = st.text(min_size=1, max_size=8)
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return toy.toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


@QUICK
@given(
    index=st.integers(0, 10**6),
    batch_size=st.integers(1, 70),
    max_len=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)
def test_a_batch_holds_the_newest_events_before_the_request(
    dataset, index, batch_size, max_len, seed
):
    source = BatchSource(
        dataset, split="train", batch_size=batch_size, max_lens={"click": max_len}, seed=seed
    )
    batch = source[index]
    clicks, log = batch.streams["click"], dataset.logs["click"]
    assert clicks.ages.shape == (batch_size, max_len)
    real = np.arange(max_len) < clicks.lengths[:, None]
    assert (clicks.ages[real] > 0).all()
    assert (np.diff(clicks.ages, axis=1)[real[:, 1:]] <= 0).all()
    assert not clicks.ages[~real].any()
    assert not clicks.ids["item"][~real].any()
    for user, length, ages in zip(batch.user_ids, clicks.lengths, clicks.ages, strict=True):
        times = log.times[log.offsets[user] : log.offsets[user + 1]]
        if length:
            # The request's time, from any event of the batch; then the newest before it.
            requests = {int(t + ages[0]) for t in times}
            newest = [sorted(t for t in times if t < r)[-max_len:] for r in requests]
            assert any([r - t for t in n] == ages[:length].tolist()
                       for r, n in zip(requests, newest, strict=True))  # fmt: skip
