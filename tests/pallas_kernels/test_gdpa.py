"""The contract of GDPA: every implementation, forward and backward, against float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import ACTIVATIONS
from pallas_kernels.gdpa import gdpa
from tests.pallas_kernels import oracle
from tests.pallas_kernels.contract import (
    DTYPES,
    IMPLEMENTATIONS,
    TOLERANCE,
    assert_close,
    assert_same_bits,
    padded_rows,
    poison,
    random_arrays,
    to_float64,
    value_and_gradients,
)

# batch 5, T = 37 and S = 11 (no powers of two), lengths 0, 1, middle, full
QUERY_LENGTHS = jnp.asarray([0, 1, 20, 37, 37], jnp.int32)
KEY_LENGTHS = jnp.asarray([11, 4, 1, 0, 11], jnp.int32)
HEADS = 3
SCALES = np.asarray([0.5, 1.25, -0.4], np.float32)


def _arrays(dtype="float32", heads=HEADS, head_dim=8):
    rows, keys = (5, 37, heads, head_dim), (5, 11, heads, head_dim)
    names = ("query", "key", "value", "cotangent")
    arrays = dict(zip(names, random_arrays(0, rows, keys, keys, rows, dtype=dtype), strict=True))
    return arrays, arrays.pop("cotangent")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestContract:
    def _run(self, implementation, arrays, cotangent, **options):
        options = {"query_lengths": QUERY_LENGTHS, "key_lengths": KEY_LENGTHS} | options
        function = partial(gdpa, implementation=implementation, **options)
        return value_and_gradients(function, arrays, cotangent)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "activations",
        [*[(name,) * HEADS for name in ACTIVATIONS], ("silu", "gelu_tanh", "silu")],
        ids=lambda names: "-".join(dict.fromkeys(names)),
    )
    def test_matches_the_formula(self, implementation, dtype, activations):
        arrays, cotangent = _arrays(dtype)
        got, grads = self._run(
            implementation,
            arrays | {"scale_in": jnp.asarray(SCALES)},
            cotangent,
            activation=activations,
            scale_out=0.7,
        )
        want, want_grads = oracle.gdpa(
            *(to_float64(x) for x in (*arrays.values(), cotangent)),
            query_lengths=QUERY_LENGTHS,
            key_lengths=KEY_LENGTHS,
            activations=activations,
            scale_in=SCALES.astype(np.float64),
            scale_out=0.7,
        )
        assert got.dtype == dtype
        assert_close(got, want, TOLERANCE[dtype], "output")
        for name, grad in grads.items():
            assert_close(grad, want_grads[name], TOLERANCE[dtype], name)

    def test_padding_is_never_read(self, implementation):
        arrays, cotangent = _arrays()
        want = self._run(implementation, arrays, cotangent)
        lengths = {"query": QUERY_LENGTHS, "key": KEY_LENGTHS, "value": KEY_LENGTHS}
        poisoned = {name: poison(x, lengths[name]) for name, x in arrays.items()}
        got = self._run(implementation, poisoned, poison(cotangent, QUERY_LENGTHS))
        assert_same_bits(got, want)
        out, grads = got
        assert (padded_rows(out, QUERY_LENGTHS) == 0).all()
        for name, grad in grads.items():
            assert (padded_rows(grad, lengths[name]) == 0).all(), name

    def test_rows_without_keys_are_zero(self, implementation):
        arrays, cotangent = _arrays()
        out, grads = self._run(implementation, arrays, cotangent)
        assert (out[3] == 0).all()
        assert all((grad[3] == 0).all() for grad in grads.values())

    def test_no_lengths_means_full(self, implementation):
        arrays, cotangent = _arrays()
        full = {"query_lengths": jnp.full(5, 37), "key_lengths": jnp.full(5, 11)}
        want = self._run(implementation, arrays, cotangent, **full)
        none = {"query_lengths": None, "key_lengths": None}
        assert_same_bits(self._run(implementation, arrays, cotangent, **none), want)

    def test_repeats_bit_for_bit(self, implementation):
        arrays, cotangent = _arrays("bfloat16")
        first, second = (self._run(implementation, arrays, cotangent) for _ in range(2))
        assert_same_bits(first, second)

    def test_scalar_scale_is_one_scale_for_all_heads(self, implementation):
        arrays, _ = _arrays()
        run = jax.jit(partial(gdpa, implementation=implementation))
        got = run(**arrays, scale_in=0.3)
        want = run(**arrays, scale_in=jnp.full(HEADS, 0.3))
        assert_same_bits(got, want)

    def test_vmap_equals_a_loop(self, implementation):
        arrays, _ = _arrays()
        stacked = {name: jnp.stack([x, 2 * x, -x]) for name, x in arrays.items()}
        run = partial(gdpa, query_lengths=QUERY_LENGTHS, implementation=implementation)
        loss = jax.jit(jax.grad(lambda arrays: (run(**arrays) ** 2).sum()))
        got = jax.jit(jax.vmap(loss))(stacked)
        for index in range(3):
            want = loss({name: x[index] for name, x in stacked.items()})
            for name, grad in want.items():
                assert_close(got[name][index], to_float64(grad), 1e-5, name)

    def test_rematerialised_gradients_are_the_same(self, implementation):
        arrays, _ = _arrays()

        def loss(arrays):
            return (gdpa(**arrays, implementation=implementation) ** 2).sum()

        want = jax.jit(jax.grad(loss))(arrays)
        got = jax.jit(jax.grad(jax.checkpoint(loss)))(arrays)
        for name, grad in want.items():
            assert_close(got[name], to_float64(grad), 1e-6, name)

    def test_an_activation_changes_its_own_head_only(self, implementation):
        arrays, _ = _arrays()
        run = jax.jit(partial(gdpa, implementation=implementation), static_argnames="activation")
        before = run(**arrays, activation=("gelu", "silu", "relu"))
        after = run(**arrays, activation=("gelu", "identity", "relu"))
        assert_same_bits(before[:, :, [0, 2]], after[:, :, [0, 2]])
        assert np.abs(before[:, :, 1] - after[:, :, 1]).max() > 0.1

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_one_head_is_the_two_layer_pffn(self, implementation, activation):
        # Property 2: K = W1^T and V = W2 give act(S W1) W2.
        states, first, second = random_arrays(1, (2, 13, 16), (16, 24), (24, 16))
        repeat = partial(jnp.broadcast_to, shape=(2, 24, 1, 16))
        run = jax.jit(partial(gdpa, activation=activation, implementation=implementation))
        got = run(states[:, :, None], repeat(first.T[:, None]), repeat(second[:, None]))
        states, first, second = (to_float64(x) for x in (states, first, second))
        want = oracle.ACTIVATIONS[activation](states @ first) @ second
        assert_close(got[:, :, 0], want, TOLERANCE["float32"], activation)

    def test_silu_with_causal_lengths_is_hstu(self, implementation):
        # Property 9: silu, s_in = 1 / sqrt(H), s_out = 1 / T and a causal mask. Every row becomes
        # an example of its own whose keys end at that row.
        time, heads, dim = 19, 2, 8
        query, key, value = random_arrays(2, *[(time, heads, dim)] * 3)
        got = gdpa(
            query[:, None],
            jnp.broadcast_to(key, (time, *key.shape)),
            jnp.broadcast_to(value, (time, *value.shape)),
            key_lengths=jnp.arange(1, time + 1),
            activation="silu",
            scale_in=dim**-0.5,
            scale_out=1.0 / time,
            implementation=implementation,
        )
        query, key, value = (to_float64(x) for x in (query, key, value))
        scores = np.einsum("tnh,snh->nts", query, key) / np.sqrt(dim)
        weights = np.tril(oracle.ACTIVATIONS["silu"](scores)) / time
        want = np.einsum("nts,snh->tnh", weights, value)
        assert_close(got[:, 0], want, TOLERANCE["float32"], "HSTU")


BAD_ARGUMENTS = {
    "query rank": ({"query": jnp.zeros((5, 37, 24))}, r"query: expected shape \[B, T, N, H\]"),
    "empty axis": ({"query": jnp.zeros((5, 0, 3, 8))}, "query: expected shape.*>= 1"),
    "key heads": ({"key": jnp.zeros((5, 11, 2, 8))}, r"key: expected.*= \(5, >= 1, 3, 8\), got"),
    "value length": ({"value": jnp.zeros((5, 12, 3, 8))}, r"value: expected.*got \(5, 12, 3, 8\)"),
    "integers": ({"query": jnp.zeros((5, 37, 3, 8), int)}, "query: expected a floating dtype"),
    "mixed": ({"key": jnp.zeros((5, 11, 3, 8), "bfloat16")}, "key: expected the dtype of query"),
    "lengths": ({"query_lengths": jnp.zeros(4, int)}, r"query_lengths: expected shape \[B\]"),
    "float lengths": ({"key_lengths": jnp.zeros(5)}, "key_lengths: expected an integer dtype"),
    "activation": ({"activation": "swish"}, "activation: expected one of.*got 'swish'"),
    "activations": ({"activation": ("silu",) * 2}, r"one per head \(3\), got 2"),
    "scales": ({"scale_in": jnp.ones(2)}, r"scale_in: expected shape \[N\] = \(3\), got \(2,\)"),
    "implementation": ({"implementation": "triton"}, "one of xla.*never falls back.*'triton'"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(name):
    changed, message = BAD_ARGUMENTS[name]
    with pytest.raises(ValueError, match=message):
        gdpa(**(_arrays()[0] | changed))
