"""What is stored, and for how long, in programs small enough to think through; then XLA's word."""

import jax
import jax.numpy as jnp
import pytest

from tests.plan.test_flattening import analyse

SIZE = 256  # rows and columns of every array
BYTES = 4 * SIZE * SIZE
MATRIX = ((SIZE, SIZE), jnp.float32)


def peak(function, num_inputs):
    return analyse(function, [MATRIX] * num_inputs)[1].peak / BYTES


def test_an_elementwise_chain_needs_no_room_but_its_result():
    assert peak(lambda x: jnp.sin(x * 2) + 1, 1) == 0  # the result is the caller's
    assert peak(lambda x: (x * 2 + 1) @ x, 1) == 1  # a product reads memory


def test_what_the_backward_pass_reads_lives_until_then():
    """Of each layer, tanh and its input's product; every weight's gradient is a result."""

    def gradients(x, *weights):
        def loss(weights):
            y = x
            for w in weights:
                y = jnp.tanh(y @ w)
            return jnp.sum(y)

        return jax.grad(loss)(weights)

    peaks = [peak(gradients, 1 + layers) for layers in (2, 3, 4)]
    assert peaks[1] - peaks[0] == peaks[2] - peaks[1] == 1


def test_a_dear_function_of_two_readers_is_stored():
    def cheap(x):
        y = x - 3
        return (y + 1) @ x, (y * 2) @ x

    def dear(x):
        y = jnp.tanh(x)
        return (y + 1) @ x, (y * 2) @ x

    # One operand after the other; and beside them tanh itself.
    assert (peak(cheap, 1), peak(dear, 1)) == (1, 2)


def test_equal_expressions_are_one():
    def twice(x, y):
        return (x + y) @ x, (x + y) @ y

    assert peak(twice, 2) == 1


def test_scatters_that_are_added_up_are_one():
    ids = jnp.arange(SIZE)

    def total(x, y):
        zeros = jnp.zeros((SIZE, SIZE))
        return jnp.sort(zeros.at[ids].add(x) + zeros.at[ids].add(y))

    assert peak(total, 2) == pytest.approx(1, abs=0.01)


def test_a_loop_and_a_scatter_write_over_what_they_update():
    def loop(x):
        return jax.lax.fori_loop(0, 3, lambda i, y: y.at[i].add(1.0), x @ x)

    assert peak(lambda x: jnp.sort(loop(x)), 1) == pytest.approx(1, abs=1e-3)


def test_a_scatter_moves_its_update_and_not_the_table():
    def update(table, row):
        return table.at[3].set(row)

    _, found = analyse(update, (MATRIX, ((SIZE,), jnp.float32)))
    assert sum(kernel.bytes for kernel in found.kernels) < BYTES / 10


@pytest.mark.parametrize("layers", [2, 6])
def test_xla_allocates_as_much(layers):
    """The room for a small network's activations, as XLA for CPUs plans it.

    Results are numbers: XLA would use the room of a larger one before it is written.
    """

    def norms(x, *weights):
        def loss(weights):
            y = x
            for w in weights:
                y = y + jnp.tanh(y @ w)
            return jnp.mean(jnp.square(y))

        return [jnp.sum(jnp.square(gradient)) for gradient in jax.grad(loss)(weights)]

    arguments = [jax.ShapeDtypeStruct(*MATRIX)] * (1 + layers)
    xla = jax.jit(norms).lower(*arguments).compile().memory_analysis()
    predicted = peak(norms, 1 + layers) * BYTES
    assert predicted == pytest.approx(xla.temp_size_in_bytes, rel=0.25)
