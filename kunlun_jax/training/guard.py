"""The numerical guard: an update that is not finite is not taken; too many in a row end the run.

It lives inside the jitted step and its counters are part of the train state, so it costs no
transfer to the host, and a resumed run counts on. The loop looks at the counters where it looks at
the state anyway; until then, a guard that has given up lets nothing change.
"""

from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Bool


# A pytree holds anything while jax maps over it (shapes, shardings), so it is not checked.
@no_type_check
@flax.struct.dataclass
class GuardState:
    """How often updates were skipped.

    Attributes:
        skipped: Updates skipped since the beginning of the run.
        in_row: Updates skipped since the last one that was taken.
    """

    skipped: Array
    in_row: Array


def init() -> GuardState:
    """Return the state in which nothing was skipped yet; two arrays, so that both are donated."""
    return GuardState(skipped=jnp.zeros((), jnp.int32), in_row=jnp.zeros((), jnp.int32))


def has_given_up(state: GuardState, *, stop_after: int) -> Bool[Array, ""]:
    """Return whether so many updates in a row were skipped that the run has to stop.

    Args:
        state: The counters.
        stop_after: How many are too many.
    """
    return state.in_row >= stop_after


def judge(
    state: GuardState, values: Any, *, stop_after: int
) -> tuple[GuardState, Bool[Array, ""], Bool[Array, ""]]:
    """Decide about an update; pure, for use inside a jitted step.

    Args:
        state: The counters.
        values: Whatever has to be finite: the loss, and norms of the gradients. A gradient too
            large for its norm in float32 counts as infinite.
        stop_after: Updates in a row after which the guard gives up.

    Returns:
        The new counters; whether to take the update; and whether the guard had given up before, in
        which case not even the step may be counted.
    """
    gave_up = has_given_up(state, stop_after=stop_after)
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(values)]).all()
    skipped = (~finite & ~gave_up).astype(jnp.int32)
    counted = GuardState(
        skipped=state.skipped + skipped,
        in_row=jnp.where(finite & ~gave_up, 0, state.in_row + skipped),
    )
    return counted, finite & ~gave_up, gave_up


def choose(take: Bool[Array, ""], new: Any, old: Any) -> Any:
    """Return one tree or the other, bit by bit."""
    return jax.tree.map(lambda a, b: jnp.where(take, a, b), new, old)
