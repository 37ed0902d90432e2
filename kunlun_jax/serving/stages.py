"""A function cut into stages: what depends on its first arguments alone is computed once for them.

    (prepare, encode), (score,) = stages(logits, (model, user), [candidates])
    of_model = prepare(model)                                    once
    of_user = encode(model, of_model, user)                      once a user
    logits = score(model, of_model, user, of_user, candidates)   as often as there are candidates

Nobody has to say which operations these are: the traced program tells what each operation depends
on. So the same code shares whatever a model admits, and a layer that begins to see the candidate
earlier makes the last stage longer, never wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

Stage = Callable[..., list[Any]]
# A value that depends on no argument, such as a range of positions, is recomputed wherever it is
# used.
_NOWHERE = -1


def stages(
    function: Callable[..., Any], first: Sequence[Any], last: Sequence[Any]
) -> tuple[list[Stage], list[Stage]]:
    """Cut a function into one function for every argument.

    Stage i takes arguments 0 .. i and, after each of them but its own, what that one's stage
    returned. It returns a list of arrays; the last stage the leaves of what the function returns.

    Args:
        function: Pure, of trees of arrays.
        first: All arguments but the last: arrays, or their shapes.
        last: The last argument in several shapes, at least two. Where the result of an operation
            has other shapes with them, it belongs to the last stage, whatever it depends on: the
            stages before are the same for any number of candidates.

    Returns:
        The stages of the first arguments, and the last stage for every shape of the last one.
    """
    traced = [jax.make_jaxpr(function)(*first, argument) for argument in last]
    shapes = [[_shapes(equation) for equation in one.jaxpr.eqns] for one in traced]
    grows = [len(set(each)) > 1 for each in zip(*shapes, strict=True)]
    parts = [
        _cut(one, grows, [*first, argument]) for one, argument in zip(traced, last, strict=True)
    ]
    return parts[0][:-1], [stages[-1] for stages in parts]


def _cut(closed: ClosedJaxpr, grows: list[bool], arguments: Sequence[Any]) -> list[Stage]:
    program, last = closed.jaxpr, len(arguments) - 1
    inputs = _by_argument(program.invars, arguments)
    stage_of: dict[Any, int] = dict.fromkeys(program.constvars, _NOWHERE)
    stage_of.update({v: stage for stage, group in enumerate(inputs) for v in group})
    equations: dict[int, list[Any]] = {stage: [] for stage in range(_NOWHERE, last + 1)}
    for equation, is_last in zip(program.eqns, grows, strict=True):
        known = max((stage_of[v] for v in _variables(equation.invars)), default=_NOWHERE)
        stage = last if is_last else known
        stage_of.update(dict.fromkeys(equation.outvars, stage))
        equations[stage].append(equation)

    def kept(stage: int) -> list[Any]:
        """Return what a stage computes and a later one needs."""
        later = [e for number in range(stage + 1, last + 1) for e in equations[number]]
        atoms = [*(atom for e in later for atom in e.invars), *program.outvars]
        used = dict.fromkeys(_variables(atoms))
        own = {v for equation in equations[stage] for v in equation.outvars}
        return [v for v in used if v in own]

    results = [kept(stage) for stage in range(last)]
    found = []
    for stage in range(last + 1):
        given = [v for i in range(stage) for v in (*inputs[i], *results[i])]
        part = program.replace(
            invars=[*given, *inputs[stage]],
            outvars=results[stage] if stage < last else program.outvars,
            eqns=[*equations[_NOWHERE], *equations[stage]],
        )
        found.append(_of_trees(ClosedJaxpr(part, closed.consts)))
    return found


def _of_trees(part: ClosedJaxpr) -> Stage:
    return lambda *given: jaxpr_as_fun(part)(*jax.tree.leaves(given))


def _by_argument(variables: Sequence[Any], arguments: Sequence[Any]) -> list[list[Any]]:
    remaining = iter(variables)
    return [[next(remaining) for _ in jax.tree.leaves(argument)] for argument in arguments]


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _shapes(equation: Any) -> tuple[Any, ...]:
    return equation.primitive.name, *(v.aval.shape for v in equation.outvars)
