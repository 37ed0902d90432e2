import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.tables.layout import LANES, known_ids, row_of, stored_rows
from tests import factories


@pytest.mark.parametrize(
    ("num_rows", "expected"),
    [(1, 1), (301, 301), (16_383, 16_383), (16_384, 16_384), (16_385, 17_408), (2**27, 2**27)],
)
def test_large_tables_fill_their_lanes(num_rows, expected):
    assert stored_rows(num_rows) == expected


@pytest.mark.parametrize("bad", [-1, -(2**31), 5, 6, 2**31 - 1, 0])
def test_ids_without_a_row_are_out_of_vocabulary(bad):
    ids = jnp.asarray([[1, bad], [4, 3]], jnp.int32)
    np.testing.assert_array_equal(known_ids(ids, 5), [[1, 0], [4, 3]])


@pytest.mark.parametrize("num_rows", [301, 20_000, 2**16])
def test_every_id_has_a_row_of_its_own_and_what_is_unknown_row_0(num_rows):
    ids = jnp.arange(num_rows)
    rows = np.asarray(row_of(ids, num_rows))
    assert len(np.unique(rows)) == num_rows
    assert 0 <= rows.min() <= rows.max() < stored_rows(num_rows)
    assert rows[0] == 0
    np.testing.assert_array_equal(row_of(factories.ints(-1, num_rows, 2**31 - 1), num_rows), 0)


def test_the_largest_table_does_not_overflow():
    num_rows = 2**31 - LANES
    ids = np.asarray([1, LANES, num_rows - 1], np.int64)
    lane = ids % LANES * 633 % LANES
    expected = lane * (num_rows // LANES) + ids // LANES
    np.testing.assert_array_equal(row_of(factories.ints(*ids), num_rows), expected)


@pytest.mark.parametrize("num_devices", [2, 8, 64, LANES])
def test_consecutive_ids_are_dealt_evenly_to_the_devices(num_devices):
    num_rows = 2**16
    popular = factories.ints(*range(1, 1 + 8 * num_devices))
    owners = np.asarray(row_of(popular, num_rows)) // (num_rows // num_devices)
    counts = np.bincount(owners, minlength=num_devices)
    assert counts.min() >= 5
    assert counts.max() <= 11
