"""What the kernels say they cost, against the products of the traced reference."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from kunlun_jax.flops import operations_by_scope
from pallas_kernels.activations import ACTIVATIONS, TRANSCENDENTAL, XLA, activate
from pallas_kernels.costs import attended_pairs
from pallas_kernels.gdpa import gdpa
from pallas_kernels.seed_attention import seed_attention
from pallas_kernels.window_attention import window_attention

BATCH, HEADS, DIM = 3, 2, 16
SMALL, LARGE = 12, 300  # seeds or keys that one tile holds, and that none does


def rows(count, *, batch=(BATCH,)):
    return jax.ShapeDtypeStruct((*batch, count, HEADS, DIM), jnp.float32)


def case(operation, count, **options):
    return pytest.param(operation, count, options, id=f"{operation.__name__}-{count}-{options}")


CASES = [
    case(gdpa, SMALL),
    case(gdpa, LARGE, activation="silu"),
    case(seed_attention, SMALL),
    case(seed_attention, LARGE),
    case(window_attention, 40, window_size=40),
    case(window_attention, 40, window_size=3),
]


def inputs(operation, count):
    if operation is gdpa:
        return rows(50), rows(count), rows(count)
    if operation is seed_attention:
        return rows(count, batch=()), rows(50), rows(50)
    return rows(count), rows(count), rows(count)


def traced(operation, implementation, options, *arrays, backward):
    """Return the jaxpr of an operation, or of its backward pass alone."""
    run = partial(operation, implementation=implementation, **options)
    if not backward:
        return jax.make_jaxpr(run)(*arrays)
    out, pull = jax.vjp(run, *(jnp.zeros(x.shape, x.dtype) for x in arrays))
    return jax.make_jaxpr(pull)(out)


def calls(jaxpr):
    """Yield the equations of the kernels in a traced function."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            yield equation
            continue
        for inner in equation.params.values():
            if inner := getattr(inner, "jaxpr", inner if hasattr(inner, "eqns") else None):
                yield from calls(inner)


def total(jaxpr):
    return sum(operations for _, operations in operations_by_scope(jaxpr))


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("operation", "count", "options"), CASES)
def test_kernels_say_what_the_reference_multiplies(operation, count, options, backward):
    """The band of the reference holds pairs beyond the window, which the operation has not.

    Of kernels that sweep twice the scores and their gradients are products of both sweeps.
    """
    arrays = inputs(operation, count)
    reference = total(traced(operation, "xla", options, *arrays, backward=backward))
    kernels = [
        equation.params["cost_estimate"]
        for equation in calls(
            traced(operation, "triton_interpret", options, *arrays, backward=backward).jaxpr
        )
    ]
    pairs, products = count * 50, 5 if backward else 2
    if operation is window_attention:
        pairs = attended_pairs(count, options["window_size"])
    of_pairs = 2 * BATCH * HEADS * DIM * pairs
    if operation is not window_attention or options["window_size"] == count:
        assert reference == products * of_pairs
    else:
        assert products * of_pairs < reference
    assert len(kernels) == 1 + (backward and (operation is window_attention or count == LARGE))
    products += 2 * (len(kernels) - 1)
    assert sum(cost.flops for cost in kernels) == products * of_pairs
    assert all(cost.transcendentals == BATCH * HEADS * pairs for cost in kernels)


def test_every_array_is_moved_once():
    arrays = inputs(gdpa, SMALL)
    [call] = calls(traced(gdpa, "triton_interpret", {}, *arrays, backward=False).jaxpr)
    numbers = 2 * BATCH + BATCH * HEADS  # lengths, scales
    moved = sum(x.size for x in (*arrays, arrays[0])) + numbers
    assert call.params["cost_estimate"].bytes_accessed == 4 * moved


def test_heads_of_an_activation_without_functions_cost_none():
    options = {"activation": ("relu", "gelu_tanh")}
    [call] = calls(
        traced(gdpa, "triton_interpret", options, *inputs(gdpa, SMALL), backward=False).jaxpr
    )
    assert call.params["cost_estimate"].transcendentals == BATCH * 50 * SMALL


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_one_function_of_a_score_at_most(name):
    called = []

    def counted(function):
        return lambda x: called.append(function) or function(x)

    functions = {key: counted(getattr(XLA, key)) for key in ("tanh", "sigmoid", "normal")}
    activate(jnp.ones(()), name, XLA._replace(**functions))
    assert len(called) == (name in TRANSCENDENTAL)


@pytest.mark.parametrize("num_events", [0, 1, 2, 7])
@pytest.mark.parametrize("window", [0, 1, 3, 50])
def test_attended_pairs(num_events, window):
    pairs = [(t, s) for t in range(num_events) for s in range(num_events) if abs(t - s) <= window]
    assert attended_pairs(num_events, window) == len(pairs)
