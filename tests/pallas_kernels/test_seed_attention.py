"""The contract of seed attention: every implementation, forward and backward, against float64."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.seed_attention import seed_attention
from tests.pallas_kernels import contract, oracle

# S = 37 (no power of two), lengths 0, 1, one less and one more than a tile of 16, full; P = 5, and
# 19 seeds, more than one tile holds, for which the backward pass of the kernels is another one
LENGTHS = jnp.asarray([0, 1, 15, 17, 20, 37], jnp.int32)
SHARED, BY_EXAMPLE = (5, 2, 6), (6, 5, 2, 6)
MANY, MANY_BY_EXAMPLE = (19, 2, 6), (6, 19, 2, 6)
KEYS = (6, 37, 2, 6)


def _arrays(dtype="float32", seeds=SHARED):
    names = ("seeds", "key", "value", "cotangent")
    shapes = (seeds, KEYS, KEYS, (6, *seeds[-3:]))
    arrays = dict(zip(names, contract.random_arrays(0, *shapes, dtype=dtype), strict=True))
    return arrays, arrays.pop("cotangent")


@pytest.mark.parametrize("implementation", contract.IMPLEMENTATIONS)
class TestContract:
    def _run(self, implementation, arrays, cotangent, lengths=LENGTHS):
        function = partial(seed_attention, lengths=lengths, implementation=implementation)
        return contract.value_and_gradients(function, arrays, cotangent)

    @pytest.mark.parametrize("dtype", contract.DTYPES)
    @pytest.mark.parametrize("seeds", [SHARED, BY_EXAMPLE, MANY, MANY_BY_EXAMPLE], ids=str)
    def test_matches_the_formula(self, implementation, dtype, seeds):
        arrays, cotangent = _arrays(dtype, seeds)
        got, grads = self._run(implementation, arrays, cotangent)
        want, want_grads = oracle.seed_attention(
            *(contract.to_float64(x) for x in (*arrays.values(), cotangent)), lengths=LENGTHS
        )
        assert got.dtype == dtype
        contract.assert_close(got, want, contract.TOLERANCE[dtype], "output")
        for name, grad in grads.items():
            contract.assert_close(grad, want_grads[name], contract.TOLERANCE[dtype], name)

    def test_lengths_beyond_the_size_act_as_the_size(self, implementation):
        arrays, cotangent = _arrays()
        want = self._run(implementation, arrays, cotangent)
        beyond = contract.lengths_beyond(LENGTHS, 37)
        contract.assert_same_bits(self._run(implementation, arrays, cotangent, beyond), want)

    def test_padding_is_never_read(self, implementation):
        arrays, cotangent = _arrays()
        want = self._run(implementation, arrays, cotangent)
        poisoned = arrays | {
            name: contract.poison(arrays[name], LENGTHS) for name in ("key", "value")
        }
        got = self._run(implementation, poisoned, cotangent)
        contract.assert_same_bits(got, want)
        for name in ("key", "value"):
            assert (contract.padded_rows(got[1][name], LENGTHS) == 0).all(), name

    def test_an_empty_sequence_gives_zero(self, implementation):
        arrays, cotangent = _arrays(seeds=BY_EXAMPLE)
        poisoned = cotangent.at[0].set(jnp.nan)
        out, grads = self._run(implementation, arrays, poisoned)
        assert (out[0] == 0).all()
        for name, grad in grads.items():
            assert (grad[0] == 0).all(), name
            assert np.isfinite(grad).all(), name

    def test_no_lengths_means_full(self, implementation):
        arrays, cotangent = _arrays()
        want = self._run(implementation, arrays, cotangent, jnp.full(6, 37))
        contract.assert_same_bits(self._run(implementation, arrays, cotangent, None), want)

    def test_shared_seeds_equal_repeated_ones(self, implementation):
        arrays, cotangent = _arrays()
        repeated = arrays | {"seeds": jnp.broadcast_to(arrays["seeds"], BY_EXAMPLE)}
        shared, shared_grads = self._run(implementation, arrays, cotangent)
        other, other_grads = self._run(implementation, repeated, cotangent)
        contract.assert_close(other, contract.to_float64(shared), 1e-6, "output")
        total = contract.to_float64(other_grads["seeds"]).sum(axis=0)
        contract.assert_close(shared_grads["seeds"], total, 1e-5, "seeds")

    def test_large_scores_stay_finite(self, implementation):
        arrays, _ = _arrays()
        arrays["seeds"] = 1e4 * arrays["seeds"]
        out = seed_attention(**arrays, lengths=LENGTHS, implementation=implementation)
        assert np.isfinite(out).all()


class TestGradients(contract.Gradients):
    operation = partial(seed_attention, lengths=LENGTHS)
    arrays = staticmethod(_arrays)


BAD_ARGUMENTS = {
    "key rank": ({"key": jnp.zeros((6, 37, 12))}, r"key: expected shape \[B, S, N, H\]"),
    "value": ({"value": jnp.zeros((6, 36, 2, 6))}, r"value: expected.*got \(6, 36, 2, 6\)"),
    "seed heads": ({"seeds": jnp.zeros((5, 3, 6))}, r"seeds: expected shape \[P, N, H\] = \(>= 1"),
    "seed batch": ({"seeds": jnp.zeros((3, 5, 2, 6))}, r"or \[B, P, N, H\] = \(6, >= 1, 2, 6\)"),
    "seed rank": ({"seeds": jnp.zeros((5, 12))}, r"or \[B, P, N, H\].*got \(5, 12\)"),
    "integers": ({"seeds": jnp.zeros((5, 2, 6), int)}, "seeds: expected a floating dtype"),
    "mixed": ({"key": jnp.zeros(KEYS, "bfloat16")}, "key: expected the dtype of seeds"),
    "lengths": ({"lengths": jnp.zeros(5, int)}, r"lengths: expected shape \[B\] = \(6\)"),
    "float lengths": ({"lengths": jnp.zeros(6)}, "lengths: expected an integer dtype"),
    "implementation": ({"implementation": "mosaic"}, "one of triton, .*never falls back.*'mosaic'"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(name):
    contract.assert_refused(seed_attention, _arrays()[0], BAD_ARGUMENTS[name])
