import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.tables import lookup, stored_rows
from tests import factories

LARGE = 20_000  # rows of a table that is stored in lanes


class TestLookup:
    @pytest.mark.parametrize("bad", [-1, -(2**31), 5, 6, 2**31 - 1, 0])
    def test_ids_without_a_row_give_the_oov_row(self, bad):
        table = factories.array(5, 3)
        ids = jnp.asarray([[1, bad], [4, 3]], jnp.int32)
        np.testing.assert_array_equal(lookup(table, ids, 5), table[np.asarray([[1, 0], [4, 3]])])

    @pytest.mark.parametrize("bad", [LARGE, stored_rows(LARGE) - 1, 2**31 - 1, -1])
    def test_a_large_table_has_rows_that_no_id_stands_for(self, bad):
        table = jnp.arange(stored_rows(LARGE), dtype=jnp.float32)[:, None]
        rows = lookup(table, factories.ints(bad, 0, 1, LARGE - 1), LARGE)
        np.testing.assert_array_equal(rows[:2], 0.0)
        assert len(np.unique(rows)) == 3

    def test_gradient_adds_up_repeated_ids(self):
        table, ids = jnp.zeros((4, 2)), jnp.asarray([1, 1, 3, -5])
        gradient = jax.grad(lambda t: jnp.sum(lookup(t, ids, 4)))(table)
        np.testing.assert_array_equal(gradient, [[1, 1], [2, 2], [0, 0], [1, 1]])
