import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.tables.adagrad import update_rows
from kunlun_jax.tables.rounding import rounding_key
from tests import factories

EPSILON = 1e-10


def adagrad(table, accumulator, gradient, rate):
    """Row-wise Adagrad over a whole table, row by row."""
    table, accumulator = np.array(table, np.float64), np.array(accumulator, np.float64)
    for i, g in enumerate(np.asarray(gradient, np.float64)):
        accumulator[i] += (g**2).mean()
        table[i] -= rate * g / math.sqrt(accumulator[i] + EPSILON)
    return table, accumulator


class TestUpdateRows:
    TABLE = factories.array(6, 4)
    SUMS = jnp.abs(factories.array(6, seed=1))
    RATE = jnp.float32(0.3)
    # Padding among the rows is one past the last one, and may repeat.
    ROWS = factories.ints(0, 2, 5, 6, 6)
    update = staticmethod(factories.jit(update_rows))

    def test_all_rows(self):
        gradient = factories.array(6, 4, seed=2)
        actual = self.update(self.TABLE, self.SUMS, gradient, None, self.RATE)
        expected = adagrad(self.TABLE, self.SUMS, gradient, 0.3)
        for got, wanted in zip(actual, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)

    def test_some_rows(self):
        gradient = factories.array(5, 4, seed=2)
        table, sums = self.update(self.TABLE, self.SUMS, gradient, self.ROWS, self.RATE)
        whole = np.zeros((6, 4))
        whole[[0, 2, 5]] = gradient[:3]
        expected = adagrad(self.TABLE, self.SUMS, whole, 0.3)
        np.testing.assert_allclose(table, expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(sums, expected[1], rtol=1e-5, atol=1e-6)
        for untouched in (1, 3, 4):
            np.testing.assert_array_equal(table[untouched], self.TABLE[untouched])
            np.testing.assert_array_equal(sums[untouched], self.SUMS[untouched])

    @pytest.mark.parametrize("rows", [None, factories.ints(0, 1, 2, 3, 4, 5)])
    def test_a_row_without_a_gradient_stays_bitwise_even_from_zero_sums(self, rows):
        gradient = factories.array(6, 4, seed=2).at[3].set(0.0)
        table, sums = self.update(self.TABLE, jnp.zeros(6), gradient, rows, self.RATE)
        np.testing.assert_array_equal(table[3], self.TABLE[3])
        assert sums[3] == 0.0
        assert np.all(np.isfinite(table))


class TestUpdateNarrowTable:
    """A bfloat16 table, with float32 sums."""

    TABLE = factories.array(6, 4).astype(jnp.bfloat16)
    SUMS = jnp.abs(factories.array(6, seed=1))
    GRADIENT = factories.array(5, 4, seed=2)
    ROWS = TestUpdateRows.ROWS
    RATE = jnp.float32(0.3)
    KEY = rounding_key(0, jnp.asarray(0), "item")
    update = staticmethod(factories.jit(update_rows))

    def test_rows_named_move_to_a_neighbour_and_no_others_move(self):
        table, sums = self.update(
            self.TABLE, self.SUMS, self.GRADIENT, self.ROWS, self.RATE, key=self.KEY
        )
        assert (table.dtype, sums.dtype) == (jnp.bfloat16, jnp.float32)
        whole = np.zeros((6, 4))
        whole[[0, 2, 5]] = self.GRADIENT[:3]
        expected = adagrad(np.asarray(self.TABLE, np.float32), self.SUMS, whole, 0.3)
        np.testing.assert_allclose(np.asarray(table, np.float64), expected[0], rtol=2**-7)
        np.testing.assert_allclose(sums, expected[1], rtol=1e-5)
        for row in range(6):
            same = np.array_equal(table[row], self.TABLE[row])
            assert same == (row in (1, 3, 4)), row

    def test_all_rows_round_as_the_same_rows_by_name(self):
        gradient = factories.array(6, 4, seed=2)
        every = jnp.arange(6)
        left, right = (
            self.update(self.TABLE, self.SUMS, gradient, rows, self.RATE, key=self.KEY)[0]
            for rows in (None, every)
        )
        np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("rows", [None, factories.ints(0, 1, 2, 3, 4, 5)])
    def test_a_step_that_is_not_taken_and_a_zero_gradient_leave_every_bit(self, rows):
        gradient = factories.array(6, 4, seed=2)
        for take, factor in ((False, 1.0), (True, 0.0)):
            table, sums = self.update(
                self.TABLE, self.SUMS, factor * gradient, rows, self.RATE,
                take=jnp.asarray(take), key=self.KEY,
            )  # fmt: skip
            np.testing.assert_array_equal(table, self.TABLE)
            np.testing.assert_array_equal(sums, self.SUMS)

    def test_steps_too_small_for_the_nearest_neighbour_add_up(self):
        """A thousand steps of an eightieth of the gap between neighbours at 1."""
        count, gap = 1000, 2**-7
        gradient, step = -jnp.ones((500, 2)), gap / 80
        assert jnp.bfloat16(1 + step) == 1  # to nearest, nothing would ever happen

        @factories.jit
        def run(table):
            def one(i, table):
                key = rounding_key(0, i, "item")
                sums = jnp.ones(500)  # so that a step is the rate over sqrt(2)
                rate = jnp.float32(step * 2**0.5)
                return update_rows(table, sums, gradient, jnp.arange(500), rate, key=key)[0]

            return jax.lax.fori_loop(0, count, one, table)

        table = np.asarray(run(jnp.ones((500, 2), jnp.bfloat16)), np.float64)
        # Every step adds a gap with probability 1/80.
        deviation = gap * (count / 80 / table.size) ** 0.5
        assert abs(table.mean() - 1 - count * step) < 5 * deviation
