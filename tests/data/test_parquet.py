import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data.parquet import row_batches

ROWS, GROUPS = 10_000, 40


@pytest.fixture
def path(tmp_path):
    """A file of many row groups, whose content does not compress."""
    values = np.random.default_rng(0).random(ROWS * GROUPS)
    table = pa.table({"number": np.arange(ROWS * GROUPS), "value": values})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=ROWS, write_page_checksum=True)
    return tmp_path / "rows.parquet"


def test_all_rows_come_in_order_and_the_columns_that_are_asked_for(path):
    batches = list(row_batches(path, 3_000, columns=["number"]))
    assert max(batch.num_rows for batch in batches) == 3_000
    assert {name for batch in batches for name in batch.schema.names} == {"number"}
    numbers = np.concatenate([batch["number"].to_numpy() for batch in batches])
    np.testing.assert_array_equal(numbers, np.arange(ROWS * GROUPS))


def test_memory_holds_a_part_of_the_file(path):
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in row_batches(path, ROWS))
    assert most < path.stat().st_size / 4


def test_pages_are_verified(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"checksum|CRC"):
        list(row_batches(path, verify=True))


def test_a_path_with_a_tilde_is_a_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.rename("~rows.parquet")
    assert next(row_batches(path.parent / "~rows.parquet", 7)).num_rows == 7
    assert next(row_batches(type(path)("~rows.parquet"), 7)).num_rows == 7
