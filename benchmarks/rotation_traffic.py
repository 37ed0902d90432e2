"""What ROTE adds to the passes over memory around window attention, without a GPU.

    pip install -e ".[aot]"
    python -m benchmarks.rotation_traffic

Compiles forward and backward pass of what the model does around the kernels, in bf16: projections
to queries, keys and values, window attention, and the projection of its output. Prints the bytes
that each kind of instruction reads and writes, in passes: one reads or writes an array of the
queries' size.
"""

from functools import partial

import jax
import jax.numpy as jnp
from absl import app, flags
from jaxtyping import Array

from benchmarks.compile_results import compilers, require_compiler
from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.plan import absent_gpu
from kunlun_jax.plan.traffic import traffic
from pallas_kernels.tile_choices import choices_for
from pallas_kernels.window_attention import window_attention

_GPU = flags.DEFINE_list("gpu", ["h200", "b200"], f"Of {', '.join(absent_gpu.GPUS)}.")
_BATCH, _TIME, _HEADS, _HEAD_DIM, _WINDOW = 256, 1024, 4, 128, 100
_WIDTH = _HEADS * _HEAD_DIM


def attend(
    events: Array, to_qkv: Array, to_out: Array, times: Array, theta: Array, *, rotated: bool
) -> Array:
    """Return the events after window attention, with ROTE of positions and times or without."""
    rows = (*events.shape[:2], _HEADS, _HEAD_DIM)
    query, key, value = ((events @ w).reshape(rows) for w in jnp.split(to_qkv, 3, axis=-1))
    rotation = {}
    if rotated:
        positions = jnp.broadcast_to(jnp.arange(_TIME, dtype=jnp.float32), times.shape)
        rotation = {"positions": positions, "times": times}
        rotation |= {"position_frequencies": theta, "time_frequencies": theta}
    attention = partial(window_attention, window_size=_WINDOW, implementation="triton")
    return attention(query, key, value, **rotation).reshape(events.shape) @ to_out


def passes(gpu: str, rotated: bool) -> dict[str, float]:
    """Return the passes of every kind of instruction, forward and backward together."""

    def step(cotangent: Array, *arrays: Array) -> tuple:
        out, pull = jax.vjp(partial(attend, rotated=rotated), *arrays)
        return out, pull(cotangent)

    def array(*shape: int, dtype=jnp.bfloat16) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    events = array(_BATCH, _TIME, _WIDTH)
    arrays = [events, array(_WIDTH, 3 * _WIDTH), array(_WIDTH, _WIDTH)]
    arrays += [array(_BATCH, _TIME, dtype=jnp.float32), array(_HEAD_DIM // 2, dtype=jnp.float32)]
    arguments = absent_gpu.on_one_device(gpu, [events, *arrays])
    with choices_for(absent_gpu.GPUS[gpu].capability):
        compiled = absent_gpu.compile_for(gpu, step, *arguments)
    text = compiled.executable.as_text()
    assert text is not None
    pass_bytes = 2 * events.size
    return {kind: entry["bytes"] / pass_bytes for kind, entry in traffic(text).items()}


def main(argv: list[str]) -> None:
    """Compile, print and write."""
    require_compiler(argv)
    rows = []
    for gpu in _GPU.value:
        for rotated in (False, True):
            found = passes(gpu, rotated)
            rows.append({"gpu": gpu, "rotated": rotated, "passes": found})
            kinds = ", ".join(f"{kind} {count:.2f}" for kind, count in found.items())
            print(f"{gpu} {'with ROTE' if rotated else 'without':10} {kinds}", flush=True)
    record = environment(("jax", "jaxlib")) | {"compilers": compilers(), "rows": rows}
    write_json(RESULTS / "rotation_traffic.json", record)


if __name__ == "__main__":
    app.run(main)
