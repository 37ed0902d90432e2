"""The oracles' gradients are the finite differences of their outputs."""

import numpy as np
import pytest

from tests.pallas_kernels import oracle

LENGTHS = [0, 1, 4, 7]


def _gdpa(arrays, cotangent):
    return oracle.gdpa(
        *(arrays[name] for name in ("query", "key", "value")),
        cotangent,
        query_lengths=LENGTHS,
        key_lengths=[3, 0, 2, 3],
        activations=("gelu_tanh", "silu"),
        scale_in=arrays["scale_in"],
        scale_out=0.7,
    )


def _window(arrays, cotangent):
    rotation = (
        np.broadcast_to(np.arange(7.0), (4, 7)),
        np.linspace(0, 3, 28).reshape(4, 7),
        arrays["position_frequencies"],
        arrays["time_frequencies"],
    )
    return oracle.rotated_window_attention(
        *(arrays[name] for name in ("query", "key", "value")),
        cotangent,
        lengths=LENGTHS,
        window_size=2,
        rotation=rotation,
    )


def _seed(arrays, cotangent):
    return oracle.seed_attention(
        arrays["seeds"], arrays["key"], arrays["value"], cotangent, lengths=LENGTHS
    )


ROWS, KEYS = (4, 7, 2, 4), (4, 3, 2, 4)
CASES = {
    "gdpa": (_gdpa, ROWS, {"query": ROWS, "key": KEYS, "value": KEYS, "scale_in": (2,)}),
    "window_attention": (
        _window,
        ROWS,
        {
            "query": ROWS,
            "key": ROWS,
            "value": ROWS,
            "position_frequencies": (2,),
            "time_frequencies": (2,),
        },
    ),
    "seed_attention": (
        _seed,
        (4, 3, 2, 4),
        {"seeds": (3, 2, 4), "key": ROWS, "value": ROWS},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_differences(name):
    function, out_shape, shapes = CASES[name]
    rng = np.random.default_rng(0)
    arrays = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    cotangent = rng.standard_normal(out_shape)
    _, grads = function(arrays, cotangent)
    step = 1e-6
    for key, value in arrays.items():
        direction = rng.standard_normal(value.shape)
        ahead, _ = function(arrays | {key: value + step * direction}, cotangent)
        behind, _ = function(arrays | {key: value - step * direction}, cotangent)
        slope = ((ahead - behind) * cotangent).sum() / (2 * step)
        assert (grads[key] * direction).sum() == pytest.approx(slope, rel=1e-6), key
