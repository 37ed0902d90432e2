"""What the profile reads from a compiled program, and the slopes of the growth benchmark."""

import jax
import jax.numpy as jnp
import pytest
from absl import flags

with pytest.MonkeyPatch.context() as patch:  # both define --out
    patch.setattr(flags, "DEFINE_string", lambda *_, **__: None)
    patch.setattr(flags, "DEFINE_integer", lambda *_, **__: None)
    patch.setattr(flags, "DEFINE_list", lambda *_, **__: None)
    from benchmarks.growth import exponents
    from benchmarks.step_profile import REST, Program, part_of, traced


def calculate(x, w, ids):
    rows = jnp.tanh(x @ w)  # 64 x 32 x 16
    scores = jnp.einsum("bth,bsh->bts", *[rows.reshape(4, 16, 16)] * 2)  # 4 x 16 x 16 x 16
    return jnp.sort(scores.sum(-1), axis=-1), rows[ids]


@pytest.fixture(scope="module")
def compiled():
    arguments = jnp.ones((64, 32)), jnp.ones((32, 16)), jnp.arange(5)
    return jax.jit(calculate).lower(*arguments).compile(), arguments


def test_products_have_their_operations(compiled):
    program = Program(compiled[0].as_text())
    outermost = {name for name in program.kinds if program.kinds[name] == "products"}
    found = {program.flops[name] for name in outermost}
    assert {2 * 64 * 32 * 16, 2 * 4 * 16 * 16 * 16} <= found
    assert "sorts, gathers, scatters" in program.kinds.values()


def test_a_trace_names_operations_of_the_program(compiled):
    call, arguments = compiled
    jax.block_until_ready(call(*arguments))
    spent, result = traced(lambda: jax.block_until_ready(call(*arguments)))
    program = Program(call.as_text())
    assert {name for name in spent if program.flops.get(name)}
    assert all(nanoseconds >= 0 and calls >= 1 for nanoseconds, calls in spent.values())
    assert result[1].shape == (5, 16)


def test_parts():
    assert part_of("jit(train_step)/jvp(Kunlun)/Kunlun.trunk/layer_1/view_attention/mul") == (
        "window attention"
    )
    assert part_of("jit(train_step)/transpose(jvp(Kunlun))/view_encoder/mlp/out") == "encoder"
    assert part_of("jit(train_step)/sort") == REST


def test_exponents():
    values = (10, 100, 1000)
    found = exponents(values, jnp.asarray([1.0, 10.0, 1000.0]))
    assert found["last_exponent"] == pytest.approx(2.0)
    assert found["exponent"] == pytest.approx(1.5)
