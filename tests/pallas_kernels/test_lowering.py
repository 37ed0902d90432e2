"""What the operations become on a GPU, seen on a machine without one."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from benchmarks.kernel_cases import Case
from benchmarks.triton_ir import triton_ir
from pallas_kernels import tile_choices
from pallas_kernels.chunks import examples_in_chunk
from pallas_kernels.gdpa import gdpa
from pallas_kernels.implementation import best_implementation
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.window_attention import window_attention
from tests.pallas_kernels.lowering import array_sizes, lower_for_cuda, triton_kernels

BATCH, ROWS, HEADS = 80, 512, 4


def _arguments(operation, keys, dtype, head_dim):
    def shape(rows, dtype=dtype):
        return jax.ShapeDtypeStruct((BATCH, rows, HEADS, head_dim), dtype)

    lengths = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    if operation == "gdpa":
        scales = jax.ShapeDtypeStruct((HEADS,), jnp.float32)
        arrays = {"query": shape(ROWS), "key": shape(keys), "value": shape(keys)}
        return arrays | {"query_lengths": lengths, "key_lengths": lengths, "scale_in": scales}
    if operation == "window_attention":
        arrays = {name: shape(ROWS) for name in ("query", "key", "value")} | {"lengths": lengths}
        numbers = jax.ShapeDtypeStruct((BATCH, ROWS), jnp.float32)
        theta = jax.ShapeDtypeStruct((head_dim // 2,), jnp.float32)
        if keys:
            arrays |= {"positions": numbers, "times": numbers}
            arrays |= {"position_frequencies": theta, "time_frequencies": theta}
        return arrays
    seeds = jax.ShapeDtypeStruct((keys, HEADS, head_dim), dtype)
    return {"seeds": seeds, "key": shape(ROWS), "value": shape(ROWS), "lengths": lengths}


OPERATIONS = {
    "gdpa": gdpa,
    "window_attention": partial(window_attention, window_size=50),
    "seed_attention": seed_attention,
}
# operation, keys or seeds (for the window: whether it rotates), the kernels of one training step
CASES = [
    ("gdpa", 32, ["gdpa_forward", "gdpa_backward"]),
    ("gdpa", 384, ["gdpa_forward", "gdpa_backward_keys", "gdpa_backward_queries"]),
    *[
        (
            "window_attention",
            rotated,
            [
                "window_attention_forward",
                "window_attention_backward_queries",
                "window_attention_backward_keys",
            ],
        )
        for rotated in (0, 1)
    ],
    ("seed_attention", 32, ["seed_attention_forward", "seed_attention_backward"]),
    (
        "seed_attention",
        384,
        [
            "seed_attention_forward",
            "seed_attention_backward_seeds",
            "seed_attention_backward_keys",
        ],
    ),
]


def _training_step(operation, implementation, arguments):
    def step(arguments, cotangent):
        out, pull = jax.vjp(
            lambda arguments: OPERATIONS[operation](**arguments, implementation=implementation),
            arguments,
        )
        return out, pull(cotangent)

    run = partial(OPERATIONS[operation], implementation="xla")
    return step, arguments, jax.eval_shape(lambda arguments: run(**arguments), arguments)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("head_dim", [16, 64, 128, 256])
@pytest.mark.parametrize(("operation", "keys", "names"), CASES)
def test_lowers_to_triton_with_the_tiles_of_the_table(operation, keys, names, head_dim, dtype):
    arguments = _arguments(operation, keys, dtype, head_dim)
    kernels = triton_kernels(lower_for_cuda(*_training_step(operation, "triton", arguments)))
    assert sorted(kernel.name for kernel in kernels) == sorted(names)
    sizes = {"rows": ROWS, "keys": keys}
    if operation == "window_attention":
        sizes["keys"] = 101
    if operation == "seed_attention":
        sizes = {"rows": keys, "keys": ROWS}
    entries = {"gdpa_backward_keys": "gdpa_backward"}
    entries |= {"seed_attention_backward_seeds": "seed_attention_backward"}
    for kernel in kernels:
        entry = entries.get(kernel.name, kernel.name)
        like = jnp.zeros((head_dim,), dtype)
        tile = tile_choices.choose(entry, like, **sizes)
        assert (kernel.num_warps, kernel.num_stages) == (tile.num_warps, tile.num_stages)


@pytest.mark.parametrize(("operation", "keys", "names"), CASES[::2])
def test_the_reference_calls_no_kernel(operation, keys, names):
    arguments = _arguments(operation, keys, "bfloat16", 64)
    step = _training_step(operation, "xla", arguments)
    assert triton_kernels(lower_for_cuda(*step)) == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_named_runs_the_best_implementation(operation):
    keys = 32
    arrays = {
        name: jnp.ones((2, *x.shape[1:]) if x.shape[0] == BATCH else x.shape, x.dtype)
        for name, x in _arguments(operation, keys, "bfloat16", 16).items()
    }
    best, reason = best_implementation()
    assert reason
    text = jax.jit(lambda arrays: OPERATIONS[operation](**arrays)).lower(arrays).as_text()
    assert bool(triton_kernels(text)) == (best == "triton")


@pytest.mark.parametrize(("capability", "pairs"), [("9.0", False), ("10.0", True)])
def test_blackwell_multiplies_pairs(capability, pairs):
    like = jnp.zeros((1, 64), jnp.bfloat16)
    with tile_choices.choices_for(capability):
        tile = tile_choices.choose("gdpa_backward", like, rows=1024, keys=128)
    case = Case("gdpa_backward", "bf16", 64, 1024, 128, False, tile)
    text = triton_ir({"9.0": "h200", "10.0": "b200"}[capability], case)
    for operation in ("fma", "mul"):
        assert (f"{operation}.rn.f32x2" in text) == pairs
    assert ("fma.rn.f32 " in text) == (not pairs)


def test_gdpa_holds_no_array_of_scores():
    keys = 384
    arguments = _arguments("gdpa", keys, "bfloat16", 64)
    scores = BATCH * HEADS * ROWS * keys
    fused = array_sizes(lower_for_cuda(*_training_step("gdpa", "triton", arguments)))
    assert max(fused) < scores
    unfused = array_sizes(lower_for_cuda(*_training_step("gdpa", "xla", arguments)))
    chunk = examples_in_chunk(BATCH, 4 * scores // BATCH)
    assert scores * chunk // BATCH in unfused
