"""A traced function with its products in the forms that XLA's CPU backend runs fast.

One user's candidates are an axis that `jax.vmap` adds to the activations and not to the parameters.
Where a parameter or seed stands on the left, the axis ends up between the axes of the result; XLA
then transposes what is large, or takes a loop of its own. Its tuned library takes

    [batch, M, K] x [batch, K, N]   and   [batch, M, K] x [batch, N, K]

The numbers of the result are the same but for the order in which they are summed.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

# Calls that are their content where no gradient is asked for, and where that is kept.
_CALLS = {"custom_vjp_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr", "jit": "jaxpr"}
# An operand is repeated for every candidate where that writes at most so many times what the other
# operand has.
_REPEATED = 4


def with_fast_products(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """Return a function of the flat arguments that computes what a traced program does.

    Args:
        closed: The program; it is not differentiated any more.
    """
    return lambda *arguments: _evaluate(closed.jaxpr, closed.consts, arguments)


def _evaluate(program: Jaxpr, consts: Any, arguments: Any) -> list[Any]:
    values: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    values.update(zip(program.constvars, consts, strict=True))
    values.update(zip(program.invars, arguments, strict=True))
    for equation in program.eqns:
        given = [read(atom) for atom in equation.invars]
        variables = [values[atom] for atom in _variables(equation)]
        name = equation.primitive.name
        if name == "dot_general":
            results = [_product(given[0], given[1], equation.params)]
        elif name in _CALLS:
            inner = equation.params[_CALLS[name]]
            results = _evaluate(inner.jaxpr, inner.consts, given)
        else:
            results = _alone(equation, program)(*variables)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _variables(equation: Any) -> list[Any]:
    return list(dict.fromkeys(x for x in equation.invars if not isinstance(x, Literal)))


def _alone(equation: Any, program: Jaxpr) -> Callable[..., list[Any]]:
    """Return the function of an equation's variables that computes it."""
    part = program.replace(
        constvars=[], invars=_variables(equation), outvars=equation.outvars, eqns=[equation]
    )
    return jaxpr_as_fun(ClosedJaxpr(part, []))


def _product(lhs: Any, rhs: Any, params: dict[str, Any]) -> Any:
    """Return `lax.dot_general`, whose axes get letters: those of a batch, contracted, and free."""
    (contracted, rhs_contracted), (batch, rhs_batch) = params["dimension_numbers"]
    letters = iter(range(lhs.ndim + rhs.ndim))
    of_lhs = [next(letters) for _ in lhs.shape]
    of_rhs = [next(letters) for _ in rhs.shape]
    pairs = [*zip(contracted, rhs_contracted, strict=True), *zip(batch, rhs_batch, strict=True)]
    for left, right in pairs:
        of_rhs[right] = of_lhs[left]
    shared = [of_lhs[axis] for axis in batch]
    summed = [of_lhs[axis] for axis in sorted(contracted)]
    free = [[x for x in axes if x not in (*shared, *summed)] for axes in (of_lhs, of_rhs)]
    result = [*shared, *free[0], *free[1]]
    sides = [(lhs, of_lhs, free[0]), (rhs, of_rhs, free[1])]
    size = dict(zip((*of_lhs, *of_rhs), (*lhs.shape, *rhs.shape), strict=True))

    def count(axes: list[int]) -> int:
        return math.prod(size[axis] for axis in axes)

    if not shared and of_lhs[-len(summed) :] == summed:
        return jax.lax.dot_general_p.bind(lhs, rhs, **params)  # rows by a matrix
    (one, of_one, free_one), (many, of_many, free_many) = sorted(sides, key=lambda x: x[0].size)
    first = of_many[0]
    repeats = first in free_many and count(free_many) > size[first]
    if repeats and one.size * size[first] <= _REPEATED * many.size:
        one = jnp.broadcast_to(one, (size[first], *one.shape))
        of_one, shared = [first, *of_one], [first, *shared]
        free_many = [axis for axis in free_many if axis != first]
        left, right = (one, of_one, free_one), (many, of_many, free_many)
    elif first in free_many:
        left, right = (many, of_many, free_many), (one, of_one, free_one)
    else:
        left, right = sides
    rows = _arranged(left[0], left[1], [*shared, *left[2], *summed])
    # Whichever of the two forms leaves the right operand as it is.
    of_right = [axis for axis in right[1] if size[axis] > 1 and axis not in shared]
    ends = of_right[-1:] in ([axis] for axis in summed)
    columns = [*right[2], *summed] if ends else [*summed, *right[2]]
    columns = _arranged(right[0], right[1], [*shared, *columns])
    groups, m, k, n = map(count, (shared, left[2], summed, right[2]))
    product = jax.lax.dot_general(
        rows.reshape(groups, m, k),
        columns.reshape((groups, n, k) if ends else (groups, k, n)),
        (((2,), (2 if ends else 1,)), ((0,), (0,))),
        preferred_element_type=params["preferred_element_type"],
        precision=params["precision"],
    )
    order = [*shared, *left[2], *right[2]]
    product = product.reshape([size[axis] for axis in order])
    return jnp.transpose(product, [order.index(axis) for axis in result])


def _arranged(x: Any, axes: list[int], order: list[int]) -> Any:
    """Return x with its axes in another order."""
    order_of = [axes.index(axis) for axis in order]
    moved = jnp.transpose(x, order_of)
    wide = [axis for axis in order_of if x.shape[axis] > 1]
    if wide == sorted(wide):
        return moved
    return jax.lax.optimization_barrier(moved)  # or XLA would take it back
