"""The contract of window attention: every implementation, forward and backward, against float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import chunks
from pallas_kernels.window_attention import window_attention
from tests.compiling import jit
from tests.pallas_kernels import contract, oracle

HEADS, DIM = 2, 6
# (T, w): one row; a full square; w = 0, 1 and more in bands; bands whose halo exceeds a block.
SHAPES = [(1, 0), (1, 3), (17, 4), (17, 17), (17, 99), (70, 0), (70, 1), (75, 7), (171, 40)]
BANDED, SQUARE = (75, 7), (17, 4)


def _lengths(time):
    # 0, 1, one less and one more than a tile of 16, full
    return jnp.minimum(jnp.asarray([0, 1, 15, 17, time // 2, time], jnp.int32), time)


def _arrays(time, dtype="float32", dim=DIM):
    names = ("query", "key", "value", "cotangent")
    shape = (6, time, HEADS, dim)
    arrays = dict(zip(names, contract.random_arrays(0, *[shape] * 4, dtype=dtype), strict=True))
    return arrays, arrays.pop("cotangent")


def _rotation(time, dim=DIM):
    gaps, theta, phi = contract.random_arrays(1, (6, time), (dim // 2,), (dim // 2,))
    return {
        "positions": jnp.broadcast_to(jnp.arange(time), (6, time)),
        "times": jnp.log1p(jnp.abs(gaps) * 30),
        "position_frequencies": theta,
        "time_frequencies": phi,
    }


def _jitted(implementation, window):
    return jit(partial(window_attention, window_size=window, implementation=implementation))


@pytest.mark.parametrize("implementation", contract.IMPLEMENTATIONS)
class TestContract:
    @pytest.mark.parametrize(("time", "window"), [SQUARE, BANDED])
    def test_lengths_beyond_the_size_act_as_the_size(self, implementation, time, window):
        arrays, cotangent = _arrays(time)
        want = self._run(implementation, arrays, cotangent, window, **_rotation(time))
        options = {"lengths": contract.lengths_beyond(_lengths(time), time)} | _rotation(time)
        got = self._run(implementation, arrays, cotangent, window, **options)
        contract.assert_same_bits(got, want)

    def test_angles_beyond_what_float32_holds_are_no_attention(self, implementation):
        # Raw seconds since 1970 times a fast frequency: NaN, and not a plausible wrong number.
        arrays, _ = _arrays(17)
        rotation = {"times": jnp.full((6, 17), 1.8e9), "time_frequencies": jnp.full(3, 2.0)}
        out = _jitted(implementation, 4)(**arrays, **rotation)
        assert np.isnan(out).all()

    def _run(self, implementation, arrays, cotangent, window, **options):
        options = {"lengths": _lengths(cotangent.shape[1])} | options
        function = partial(
            window_attention, window_size=window, implementation=implementation, **options
        )
        return contract.value_and_gradients(function, arrays, cotangent)

    @pytest.mark.parametrize("dtype", contract.DTYPES)
    @pytest.mark.parametrize(("time", "window"), SHAPES)
    def test_matches_the_formula(self, implementation, dtype, time, window):
        arrays, cotangent = _arrays(time, dtype)
        got, grads = self._run(implementation, arrays, cotangent, window)
        want, want_grads = oracle.window_attention(
            *(contract.to_float64(x) for x in (*arrays.values(), cotangent)),
            lengths=_lengths(time),
            window_size=window,
        )
        assert got.dtype == dtype
        contract.assert_close(got, want, contract.TOLERANCE[dtype], "output")
        for name, grad in grads.items():
            if np.abs(want_grads[name]).max() < 1e-12:  # a softmax over one key has no slope
                np.testing.assert_allclose(
                    contract.to_float64(grad), 0.0, atol=contract.TOLERANCE[dtype]
                )
            else:
                contract.assert_close(grad, want_grads[name], contract.TOLERANCE[dtype], name)

    # The gradient of a frequency is a sum of both signs. With H = 6 there are 3 of them, and by
    # chance all can be small beside their terms, whose rows are rounded after the rotation; a bf16
    # product cannot help that. Of 16 some are not.
    @pytest.mark.parametrize(("dtype", "dim"), [("float32", DIM), ("bfloat16", 32)])
    @pytest.mark.parametrize(("time", "window"), [SQUARE, BANDED])
    def test_rotates_first_with_gradients_of_the_frequencies(
        self, implementation, dtype, dim, time, window
    ):
        arrays, cotangent = _arrays(time, dtype, dim)
        rotation = _rotation(time, dim)
        learned = {name: rotation[name] for name in ("position_frequencies", "time_frequencies")}
        fixed = {name: rotation[name] for name in ("positions", "times")}
        got, grads = self._run(implementation, arrays | learned, cotangent, window, **fixed)
        want, want_grads = oracle.rotated_window_attention(
            *(contract.to_float64(x) for x in (*arrays.values(), cotangent)),
            lengths=_lengths(time),
            window_size=window,
            rotation=tuple(rotation.values()),
        )
        contract.assert_close(got, want, contract.TOLERANCE[dtype], "output")
        for name, grad in grads.items():
            contract.assert_close(grad, want_grads[name], contract.TOLERANCE[dtype], name)

    @pytest.mark.parametrize(("time", "window"), [SQUARE, BANDED])
    def test_padding_is_never_read(self, implementation, time, window):
        arrays, cotangent = _arrays(time)
        rotation, lengths = _rotation(time), _lengths(time)
        want = self._run(implementation, arrays, cotangent, window, **rotation)
        poisoned = {name: contract.poison(x, lengths) for name, x in arrays.items()}
        times = rotation["times"][:, :, None, None]
        rotation = rotation | {"times": contract.poison(times, lengths)[:, :, 0, 0]}
        got = self._run(
            implementation, poisoned, contract.poison(cotangent, lengths), window, **rotation
        )
        contract.assert_same_bits(got, want)
        out, grads = got
        assert (contract.padded_rows(out, lengths) == 0).all()
        for name, grad in grads.items():
            assert (contract.padded_rows(grad, lengths) == 0).all(), name

    def test_nan_times_of_padding_stay_out_of_the_frequencies(self, implementation):
        time, window = SQUARE
        arrays, cotangent = _arrays(time)
        rotation = _rotation(time)
        times = contract.poison(rotation.pop("times")[:, :, None, None], _lengths(time))[:, :, 0, 0]
        learned = {"time_frequencies": rotation.pop("time_frequencies")}
        _, grads = self._run(
            implementation, arrays | learned, cotangent, window, times=times, **rotation
        )
        assert np.isfinite(grads["time_frequencies"]).all()

    @pytest.mark.parametrize(("time", "window"), [SQUARE, BANDED])
    def test_no_lengths_means_full(self, implementation, time, window):
        arrays, cotangent = _arrays(time)
        want = self._run(implementation, arrays, cotangent, window, lengths=jnp.full(6, time))
        got = self._run(implementation, arrays, cotangent, window, lengths=None)
        contract.assert_same_bits(got, want)

    @pytest.mark.parametrize("time", [17, 75])
    def test_a_wide_window_is_full_attention(self, implementation, time):
        # Property 5, against jax.nn.
        arrays, _ = _arrays(time)
        want = jax.nn.dot_product_attention(*arrays.values(), implementation="xla")
        want, tolerance = contract.to_float64(want), contract.TOLERANCE["float32"]
        for window in (time - 1, time, 1000):
            got = _jitted(implementation, window)(**arrays)
            contract.assert_close(got, want, tolerance, f"w = {window}")

    @pytest.mark.parametrize(("time", "window"), [SQUARE, BANDED, (171, 40)])
    @pytest.mark.parametrize("moved", [0, 10, -1])
    def test_an_event_moves_no_output_beyond_the_window(self, implementation, time, window, moved):
        # Property 5.
        arrays, _ = _arrays(time)
        run = _jitted(implementation, window)
        before = run(**arrays)
        after = run(**{name: x.at[:, moved].add(1.0) for name, x in arrays.items()})
        near = np.abs(np.arange(time) - np.arange(time)[moved]) <= window
        changed = (before != after).any(axis=(0, 2, 3))
        np.testing.assert_array_equal(changed, near)

    @pytest.mark.parametrize(("time", "window"), [SQUARE, BANDED])
    def test_rotary_properties(self, implementation, time, window):
        # Property 6, seen through the attention.
        arrays, _ = _arrays(time)
        rotation = _rotation(time)
        run = partial(_jitted(implementation, window), **arrays)
        zeros = {"positions": jnp.zeros((6, time)), "times": jnp.zeros((6, time))}
        # Not bit for bit: a kernel sums the products of the two halves of a row apart.
        contract.assert_close(
            run(**(rotation | zeros)), contract.to_float64(run()), 1e-6, "no rotation"
        )
        here = run(**rotation)
        shifted = run(**(rotation | {"positions": rotation["positions"] + 5}))
        contract.assert_close(shifted, contract.to_float64(here), 1e-4, "shift of positions")
        later = run(**(rotation | {"times": 1.5 * rotation["times"]}))
        assert np.abs(later - here).max() > 1e-2

    @pytest.mark.parametrize("kind", ["position", "time"])
    def test_positions_or_times_alone(self, implementation, kind):
        time, window = SQUARE
        arrays, _ = _arrays(time)
        rotation = _rotation(time)
        only = {name: x for name, x in rotation.items() if name.startswith(kind)}
        other = "times" if kind == "position" else "positions"
        run = partial(_jitted(implementation, window), **arrays)
        want = run(**(rotation | {other: jnp.zeros((6, time))}))
        contract.assert_close(run(**only), contract.to_float64(want), 1e-6, kind)


@pytest.mark.parametrize("gradient", [False, True])
def test_reference_memory_grows_linearly(gradient, monkeypatch):
    # Chunks of the batch take what fits a cache, whatever the length.
    monkeypatch.setattr(chunks, "examples_in_chunk", lambda batch, _: batch)
    attend = partial(window_attention, window_size=16, implementation="xla")

    def both(cotangent, *arrays):
        out, pull = jax.vjp(attend, *arrays)
        return out, pull(cotangent)

    def temporary_bytes(time):
        shape = jax.ShapeDtypeStruct((2, time, 1, 8), jnp.float32)
        lowered = (
            jax.jit(both).lower(*[shape] * 4) if gradient else jax.jit(attend).lower(*[shape] * 3)
        )
        return lowered.compile().memory_analysis().temp_size_in_bytes

    small, large = temporary_bytes(2048), temporary_bytes(8192)
    assert 3.5 < large / small < 4.5
    # One [B, T, T] array of scores would be more.
    assert large < 2 * 4 * 8192**2


class TestGradients(contract.Gradients):
    operation = partial(
        window_attention, window_size=BANDED[1], lengths=_lengths(BANDED[0]), **_rotation(BANDED[0])
    )
    arrays = partial(_arrays, BANDED[0])
    rematerialised = 1e-5


TIME = 17
BAD_ARGUMENTS = {
    "query rank": ({"query": jnp.zeros((6, 17, 12))}, r"query: expected shape \[B, T, N, H\]"),
    "key": ({"key": jnp.zeros((6, 18, 2, 6))}, r"key: expected.*\(6, 17, 2, 6\), got \(6, 18"),
    "value": ({"value": jnp.zeros((6, 17, 2, 8))}, r"value: expected.*got \(6, 17, 2, 8\)"),
    "integers": ({"value": jnp.zeros((6, 17, 2, 6), int)}, "value: expected a floating dtype"),
    "mixed": ({"key": jnp.zeros((6, 17, 2, 6), "bfloat16")}, "key: expected the dtype of query"),
    "lengths": ({"lengths": jnp.zeros((6, 1), int)}, r"lengths: expected shape \[B\]"),
    "float lengths": ({"lengths": jnp.zeros(6)}, "lengths: expected an integer dtype"),
    "window": ({"window_size": -1}, "window_size: expected a Python integer >= 0, got -1"),
    "positions": (_rotation(18), r"positions: expected shape \[B, T\] = \(6, 17\)"),
    "times": (
        _rotation(TIME) | {"times": jnp.zeros((6, 18))},
        r"times: expected shape \[B, T\] = \(6, 17\), got \(6, 18\)",
    ),
    "frequencies": (
        _rotation(TIME) | {"time_frequencies": jnp.ones(6)},
        r"time_frequencies: expected shape \[H/2\] = \(3\), got \(6,\)",
    ),
    "no frequencies": (
        {"positions": jnp.zeros((6, 17))},
        "position_frequencies: expected together with positions, got None",
    ),
    "no times": (
        {"time_frequencies": jnp.zeros(3)},
        "times: expected together with time_frequencies, got None",
    ),
    "odd H": (
        {name: jnp.zeros((6, 17, 2, 5)) for name in ("query", "key", "value")} | _rotation(TIME),
        "query: expected an even H to rotate pairs, got H = 5",
    ),
    "implementation": ({"implementation": "cuda"}, "one of triton, .*never falls back"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused(name):
    arrays = _arrays(TIME)[0] | {"window_size": 3}
    contract.assert_refused(window_attention, arrays, BAD_ARGUMENTS[name])


@pytest.mark.parametrize("head_dim", [64, 100])
def test_default_tiles(head_dim):
    time, names = 200, ("query", "key", "value", "cotangent")
    arrays = dict(zip(names, contract.random_arrays(3, *[(6, time, 1, head_dim)] * 4), strict=True))
    cotangent = arrays.pop("cotangent")
    learned = dict(
        zip(
            ("position_frequencies", "time_frequencies"),
            contract.random_arrays(4, *[(head_dim // 2,)] * 2),
            strict=True,
        )
    )
    rotation = _rotation(time)
    options = {name: rotation[name] for name in ("positions", "times")} | {"window_size": 50}
    got, want = (
        contract.value_and_gradients(
            partial(window_attention, implementation=name, lengths=_lengths(time), **options),
            arrays | learned,
            cotangent,
            jit=jax.jit,  # compiled fast, both sum one by one, and are 2e-5 apart
        )
        for name in ("triton_interpret", "xla")
    )
    tolerance = contract.TOLERANCE["float32"]
    jax.tree.map(
        lambda a, b: contract.assert_close(a, contract.to_float64(b), tolerance, "default"),
        got,
        want,
    )


@pytest.mark.parametrize("implementation", contract.IMPLEMENTATIONS)
def test_positions_and_times_are_not_differentiated(implementation):
    arrays, _ = _arrays(17)

    def loss(times):
        rotation = _rotation(17) | {"times": times}
        run = partial(window_attention, window_size=4, implementation=implementation)
        return run(**arrays, **rotation).sum()

    assert (jit(jax.grad(loss))(_rotation(17)["times"]) == 0).all()
