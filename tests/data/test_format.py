import numpy as np
import pyarrow as pa
import pytest

from kunlun_jax.data import DatasetError
from kunlun_jax.data.format import (
    decode_block,
    encode_block,
    example_columns,
    log_columns,
    read_blocks,
    sparse_values,
    write_shard,
)
from tests.data import toy


def test_a_block_describes_itself():
    columns = {"a": pa.array([1, 2], pa.int32()), "b": pa.array([[1.5], []])}
    block = decode_block(encode_block("log", "click", columns))
    assert (block.kind, block.name) == ("log", "click")
    assert {name: column.to_pylist() for name, column in block.columns.items()} == {
        "a": [1, 2],
        "b": [[1.5], []],
    }


@pytest.mark.parametrize("damage", [b"", b"nothing", "cut", "plain"])
def test_what_is_not_a_block_is_refused(damage):
    record = encode_block("log", "click", {"a": pa.array([1, 2], pa.int32())})
    if damage == "cut":
        damage = record[: len(record) // 2]
    if damage == "plain":
        batch = pa.RecordBatch.from_pydict({"a": [1]})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        damage = sink.getvalue().to_pybytes()
    with pytest.raises(DatasetError, match="not an Arrow block of this format"):
        decode_block(damage)


def test_log_columns_of_users_in_any_order():
    log, stream = toy.toy_tables().logs["click"], toy.SCHEMA.streams[0]
    users = np.array([7, 0, 3])
    columns = log_columns(log.take(users), stream, users + 100)
    assert columns["user"].to_pylist() == [107, 100, 103]
    for user, times, items in zip(
        users, columns["times"].to_pylist(), columns["id/item"].to_pylist(), strict=True
    ):
        part = slice(log.offsets[user], log.offsets[user + 1])
        assert times == log.times[part].tolist()
        assert items == log.ids["item"][part].tolist()


def test_sparse_columns():
    train = toy.toy_tables().splits["train"]
    rows = np.array([5, 3, 100, 8])
    columns = example_columns(train.take(rows), toy.SCHEMA, np.array([3, 1, 4, 1]), rows)
    assert columns["user"].to_pylist() == [3, 1, 4, 1]
    assert columns["row"].to_pylist() == rows.tolist()
    for name, width in (("user", 1), ("tags", 3)):
        ids, lengths = sparse_values(columns[f"sparse/{name}"], width)
        np.testing.assert_array_equal(ids, train.sparse[name][rows])
        np.testing.assert_array_equal(lengths, train.sparse_lengths[name][rows])
    nulls = columns["sparse/user"].is_null().to_pylist()
    assert nulls == (train.sparse_lengths["user"][rows] == 0).tolist()


def test_shard_round_trip_and_damage(tmp_path):
    path = tmp_path / "shard"
    records = [encode_block("log", str(i), {"a": pa.array([i])}) for i in range(5)]
    write_shard(path, iter(records))
    assert [block.name for block in read_blocks(path)] == list("01234")
    write_shard(path, iter([*records[:2], b"nothing"]))
    with pytest.raises(DatasetError, match=r"shard: record 2 is damaged: not an Arrow block"):
        list(read_blocks(path))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"shard: record 0 is damaged"):
        list(read_blocks(path))
