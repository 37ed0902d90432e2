"""What every implementation of an operation is held to, and how closely.

The test classes run once for each of `IMPLEMENTATIONS`: the reference, the kernels in interpret
mode on tiles of 16 rows (`conftest.py`), and the kernels on the GPU where there is one.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.implementation import best_implementation
from tests.compiling import jit

_BEST, _REASON = best_implementation()
IMPLEMENTATIONS = [
    "xla",
    "triton_interpret",
    pytest.param("triton", marks=pytest.mark.skipif(_BEST != "triton", reason=_REASON)),
]
DTYPES = ["float32", "bfloat16"]

# Largest error over largest true value, against float64 on the same (rounded) inputs.
#   float32   24 bits, sums of up to 200 terms.
#   bfloat16  8 bits; weights, cotangents and results are each rounded once (2^-9 of the value).
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


def random_arrays(seed, *shapes, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def to_float64(x):
    return np.asarray(x.astype(jnp.float32), np.float64)


def assert_close(got, want, tolerance, what):
    got = to_float64(got)
    assert got.shape == want.shape, what
    assert np.isfinite(got).all(), what
    error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)
    assert error <= tolerance, f"{what}: relative error {error:.2e}, expected <= {tolerance:.0e}"


def assert_same_bits(got, want):
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(to_float64(left), to_float64(right))


def poison(x, lengths):
    """Return x with NaN in the rows beyond each length."""
    padded = np.arange(x.shape[1]) >= np.asarray(lengths)[:, None]
    return jnp.where(padded[:, :, None, None], jnp.nan, x)


def lengths_beyond(lengths, size):
    """Return lengths that mean the same: full ones beyond the size, empty ones below 0."""
    lengths = np.asarray(lengths)
    return jnp.asarray(np.select([lengths == size, lengths == 0], [2**31 - 1, -5], lengths))


def padded_rows(x, lengths):
    padded = np.arange(x.shape[1]) >= np.asarray(lengths)[:, None]
    return to_float64(x)[padded]


def value_and_gradients(function, arrays, cotangent, jit=jit):
    """Return function(**arrays) and the gradients of sum(cotangent * output), both jitted."""

    @jit
    def run(arrays, cotangent):
        out, pull = jax.vjp(lambda arrays: function(**arrays), arrays)
        return out, pull(cotangent)[0]

    return run(arrays, cotangent)


def assert_refused(operation, arrays, bad):
    """Check that changed arguments are refused; `bad`: the changes, and what the message says."""
    changed, message = bad
    with pytest.raises(ValueError, match=message):
        operation(**(arrays | changed))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class Gradients:
    """What the gradients of every operation are held to; a subclass names the operation.

    Attributes:
        operation: With its options.
        arrays: From a dtype to the operation's arrays and a cotangent.
        rematerialised: Tolerance of gradients that are computed in another order.
    """

    operation: Callable
    arrays: Callable
    rematerialised = 1e-6

    def _loss(self, implementation):
        run = partial(self.operation, implementation=implementation)
        return lambda arrays: (run(**arrays) ** 2).sum()

    def test_repeats_bit_for_bit(self, implementation):
        function = partial(self.operation, implementation=implementation)
        case = self.arrays("bfloat16")
        assert_same_bits(*(value_and_gradients(function, *case) for _ in range(2)))

    def test_vmap_equals_a_loop(self, implementation):
        arrays, _ = self.arrays()
        stacked = {name: jnp.stack([x, 2 * x, -x]) for name, x in arrays.items()}
        gradient = jax.grad(self._loss(implementation))
        got, of_one = jit(jax.vmap(gradient))(stacked), jit(gradient)
        for index in range(3):
            want = of_one({name: x[index] for name, x in stacked.items()})
            for name, grad in want.items():
                assert_close(got[name][index], to_float64(grad), 1e-5, name)

    def test_rematerialised_gradients_are_the_same(self, implementation):
        arrays, _ = self.arrays()
        loss = self._loss(implementation)
        want = jit(jax.grad(loss))(arrays)
        got = jit(jax.grad(jax.checkpoint(loss)))(arrays)
        for name, grad in want.items():
            assert_close(got[name], to_float64(grad), self.rematerialised, name)
