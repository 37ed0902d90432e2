"""The contract of GDPA: every implementation, forward and backward, against float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import ACTIVATIONS, tile_choices
from pallas_kernels.gdpa import gdpa
from tests.compiling import jit
from tests.pallas_kernels import contract, oracle

# T = 37 and S = 19 (no powers of two); lengths 0, 1, one less and one more than a tile of 16, full
QUERY_LENGTHS = jnp.asarray([0, 1, 15, 37, 16, 17, 37], jnp.int32)
KEY_LENGTHS = jnp.asarray([19, 4, 1, 0, 17, 16, 19], jnp.int32)
HEADS = 3
SCALES = np.asarray([0.5, 1.25, -0.4], np.float32)


def _arrays(dtype="float32", heads=HEADS, head_dim=8, num_keys=19):
    rows, keys = (7, 37, heads, head_dim), (7, num_keys, heads, head_dim)
    names = ("query", "key", "value", "cotangent")
    arrays = dict(
        zip(names, contract.random_arrays(0, rows, keys, keys, rows, dtype=dtype), strict=True)
    )
    return arrays, arrays.pop("cotangent")


@pytest.mark.parametrize("implementation", contract.IMPLEMENTATIONS)
class TestContract:
    def _run(self, implementation, arrays, cotangent, **options):
        options = {"query_lengths": QUERY_LENGTHS, "key_lengths": KEY_LENGTHS} | options
        function = partial(gdpa, implementation=implementation, **options)
        return contract.value_and_gradients(function, arrays, cotangent)

    @pytest.mark.parametrize("dtype", contract.DTYPES)
    @pytest.mark.parametrize(
        "activations",
        [*[(name,) * HEADS for name in ACTIVATIONS], ("silu", "gelu_tanh", "silu")],
        ids=lambda names: "-".join(dict.fromkeys(names)),
    )
    def test_matches_the_formula(self, implementation, dtype, activations):
        self._check(implementation, dtype, activations, KEY_LENGTHS, *_arrays(dtype))

    def _check(self, implementation, dtype, activations, key_lengths, arrays, cotangent):
        got, grads = self._run(
            implementation,
            arrays | {"scale_in": jnp.asarray(SCALES)},
            cotangent,
            key_lengths=key_lengths,
            activation=activations,
            scale_out=0.7,
        )
        want, want_grads = oracle.gdpa(
            *(contract.to_float64(x) for x in (*arrays.values(), cotangent)),
            query_lengths=QUERY_LENGTHS,
            key_lengths=key_lengths,
            activations=activations,
            scale_in=SCALES.astype(np.float64),
            scale_out=0.7,
        )
        assert got.dtype == dtype
        contract.assert_close(got, want, contract.TOLERANCE[dtype], "output")
        for name, grad in grads.items():
            contract.assert_close(grad, want_grads[name], contract.TOLERANCE[dtype], name)

    @pytest.mark.parametrize("dtype", contract.DTYPES)
    def test_keys_that_fit_one_tile(self, implementation, dtype):
        # The backward pass of the kernels is another one then.
        lengths = jnp.minimum(KEY_LENGTHS, 11)
        names = ("silu", "gelu_tanh", "silu")
        self._check(implementation, dtype, names, lengths, *_arrays(dtype, num_keys=11))

    @pytest.mark.parametrize("order", ["first", "last", "apart"])
    def test_whenever_the_gradient_of_the_queries_is_computed(
        self, implementation, order, monkeypatch
    ):
        choose = tile_choices.choose
        monkeypatch.setattr(
            "pallas_kernels.gdpa.api.choose",
            lambda *like, **sizes: choose(*like, **sizes)._replace(query_gradient=order),
        )
        lengths = jnp.minimum(KEY_LENGTHS, 11)
        self._check(implementation, "float32", ("silu",) * 3, lengths, *_arrays(num_keys=11))

    def test_lengths_beyond_the_size_act_as_the_size(self, implementation):
        arrays, cotangent = _arrays()
        lengths = {"query_lengths": QUERY_LENGTHS, "key_lengths": KEY_LENGTHS}
        want = self._run(implementation, arrays, cotangent, **lengths)
        for name, size in (("query_lengths", 37), ("key_lengths", 19)):
            beyond = lengths | {name: contract.lengths_beyond(lengths[name], size)}
            contract.assert_same_bits(self._run(implementation, arrays, cotangent, **beyond), want)

    def test_float16_is_infinite_above_its_range(self, implementation):
        # As the docstring says: 300^2 is more than 65,504.
        query = jnp.full((1, 16, 1, 16), 300.0**0.5 / 4, "float16")
        out = gdpa(
            *(query,) * 3, activation="relu_squared", scale_in=300.0, implementation=implementation
        )
        assert np.isposinf(out).all()

    def test_keys_too_many_to_keep(self, implementation, monkeypatch):
        # The forward kernel loads keys anew for every tile of queries then.
        monkeypatch.setattr("pallas_kernels.gdpa.forward.RESIDENT_BYTES", 0)
        self._check(implementation, "float32", ("gelu",) * 3, KEY_LENGTHS, *_arrays())

    def test_padding_is_never_read(self, implementation):
        arrays, cotangent = _arrays()
        want = self._run(implementation, arrays, cotangent)
        lengths = {"query": QUERY_LENGTHS, "key": KEY_LENGTHS, "value": KEY_LENGTHS}
        poisoned = {name: contract.poison(x, lengths[name]) for name, x in arrays.items()}
        got = self._run(implementation, poisoned, contract.poison(cotangent, QUERY_LENGTHS))
        contract.assert_same_bits(got, want)
        out, grads = got
        assert (contract.padded_rows(out, QUERY_LENGTHS) == 0).all()
        for name, grad in grads.items():
            assert (contract.padded_rows(grad, lengths[name]) == 0).all(), name

    def test_rows_without_keys_are_zero(self, implementation):
        arrays, cotangent = _arrays()
        out, grads = self._run(implementation, arrays, cotangent)
        assert (out[3] == 0).all()
        assert all((grad[3] == 0).all() for grad in grads.values())

    def test_no_lengths_means_full(self, implementation):
        arrays, cotangent = _arrays()
        full = {"query_lengths": jnp.full(7, 37), "key_lengths": jnp.full(7, 19)}
        want = self._run(implementation, arrays, cotangent, **full)
        none = {"query_lengths": None, "key_lengths": None}
        contract.assert_same_bits(self._run(implementation, arrays, cotangent, **none), want)

    def test_scalar_scale_is_one_scale_for_all_heads(self, implementation):
        arrays, _ = _arrays()
        run = jit(partial(gdpa, implementation=implementation))
        got = run(**arrays, scale_in=0.3)
        want = run(**arrays, scale_in=jnp.full(HEADS, 0.3))
        contract.assert_same_bits(got, want)

    def test_an_activation_changes_its_own_head_only(self, implementation):
        arrays, _ = _arrays()
        run = jit(partial(gdpa, implementation=implementation), static_argnames="activation")
        before = run(**arrays, activation=("gelu", "silu", "relu"))
        after = run(**arrays, activation=("gelu", "identity", "relu"))
        contract.assert_same_bits(before[:, :, [0, 2]], after[:, :, [0, 2]])
        assert np.abs(before[:, :, 1] - after[:, :, 1]).max() > 0.1

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_one_head_is_the_two_layer_pffn(self, implementation, activation):
        # Property 2: K = W1^T and V = W2 give act(S W1) W2.
        states, first, second = contract.random_arrays(1, (2, 13, 16), (16, 24), (24, 16))
        repeat = partial(jnp.broadcast_to, shape=(2, 24, 1, 16))
        run = jit(partial(gdpa, activation=activation, implementation=implementation))
        got = run(states[:, :, None], repeat(first.T[:, None]), repeat(second[:, None]))
        states, first, second = (contract.to_float64(x) for x in (states, first, second))
        want = oracle.ACTIVATIONS[activation](states @ first) @ second
        contract.assert_close(got[:, :, 0], want, contract.TOLERANCE["float32"], activation)

    def test_silu_with_causal_lengths_is_hstu(self, implementation):
        # Property 9: silu, s_in = 1 / sqrt(H), s_out = 1 / T and a causal mask. Every row becomes
        # an example of its own whose keys end at that row.
        time, heads, dim = 19, 2, 8
        query, key, value = contract.random_arrays(2, *[(time, heads, dim)] * 3)
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
        query, key, value = (contract.to_float64(x) for x in (query, key, value))
        scores = np.einsum("tnh,snh->nts", query, key) / np.sqrt(dim)
        weights = np.tril(oracle.ACTIVATIONS["silu"](scores)) / time
        want = np.einsum("nts,snh->tnh", weights, value)
        contract.assert_close(got[:, 0], want, contract.TOLERANCE["float32"], "HSTU")


class TestGradients(contract.Gradients):
    operation = partial(gdpa, query_lengths=QUERY_LENGTHS, key_lengths=KEY_LENGTHS)
    arrays = staticmethod(_arrays)


BAD_ARGUMENTS = {
    "query rank": ({"query": jnp.zeros((7, 37, 24))}, r"query: expected shape \[B, T, N, H\]"),
    "empty axis": ({"query": jnp.zeros((7, 0, 3, 8))}, "query: expected shape.*>= 1"),
    "key heads": ({"key": jnp.zeros((7, 19, 2, 8))}, r"key: expected.*= \(7, >= 1, 3, 8\), got"),
    "value length": ({"value": jnp.zeros((7, 12, 3, 8))}, r"value: expected.*got \(7, 12, 3, 8\)"),
    "integers": ({"query": jnp.zeros((7, 37, 3, 8), int)}, "query: expected a floating dtype"),
    "mixed": ({"key": jnp.zeros((7, 19, 3, 8), "bfloat16")}, "key: expected the dtype of query"),
    "lengths": ({"query_lengths": jnp.zeros(4, int)}, r"query_lengths: expected shape \[B\]"),
    "float lengths": ({"key_lengths": jnp.zeros(7)}, "key_lengths: expected an integer dtype"),
    "activation": ({"activation": "swish"}, "activation: expected one of.*got 'swish'"),
    "activations": ({"activation": ("silu",) * 2}, r"one per head \(3\), got 2"),
    "scales": ({"scale_in": jnp.ones(2)}, r"scale_in: expected shape \[N\] = \(3\), got \(2,\)"),
    "implementation": ({"implementation": "cuda"}, "one of triton, .*never falls back.*'cuda'"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(name):
    contract.assert_refused(gdpa, _arrays()[0], BAD_ARGUMENTS[name])


def test_a_kernel_asked_for_by_name_never_falls_back():
    wide, _ = _arrays(head_dim=272)
    assert gdpa(**wide).shape == (7, 37, HEADS, 272)
    with pytest.raises(ValueError, match=r"'triton_interpret': expected.*H <= 256, got.*H = 272"):
        gdpa(**wide, implementation="triton_interpret")


@pytest.mark.parametrize("head_dim", [64, 100])
def test_default_tiles(head_dim):
    names = ("query", "key", "value", "cotangent")
    rows, keys = (2, 130, 2, head_dim), (2, 140, 2, head_dim)
    arrays = dict(zip(names, contract.random_arrays(3, rows, keys, keys, rows), strict=True))
    cotangent = arrays.pop("cotangent")
    lengths = {"query_lengths": jnp.asarray([130, 65]), "key_lengths": jnp.asarray([129, 63])}
    got, want = (
        contract.value_and_gradients(
            partial(gdpa, implementation=name, **lengths), arrays, cotangent
        )
        for name in ("triton_interpret", "xla")
    )
    jax.tree.map(
        lambda a, b: contract.assert_close(a, contract.to_float64(b), 1e-5, "default tiles"),
        got,
        want,
    )
