import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.training import guard

GOOD, BAD = 1.0, float("nan")
STOP_AFTER = 3


def judge_all(losses, state=None):
    """Return the counters and the decisions after a sequence of losses."""
    state, taken = state or guard.init(), []
    for loss in losses:
        state, take, _ = guard.judge(state, (jnp.asarray(loss),), stop_after=STOP_AFTER)
        taken.append(bool(take))
    return state, taken


@pytest.mark.parametrize(
    ("losses", "taken", "skipped", "in_row"),
    [
        ([GOOD, GOOD], [True, True], 0, 0),
        ([GOOD, BAD, GOOD], [True, False, True], 1, 0),
        ([BAD, BAD, GOOD, BAD], [False, False, True, False], 3, 1),
        ([BAD, BAD, BAD], [False, False, False], 3, 3),
        # Given up: nothing is taken, and nothing counted, ever after.
        ([BAD, BAD, BAD, GOOD, BAD], [False] * 5, 3, 3),
    ],
)
def test_counts_and_decides(losses, taken, skipped, in_row):
    state, decisions = judge_all(losses)
    assert decisions == taken
    assert (int(state.skipped), int(state.in_row)) == (skipped, in_row)
    assert bool(guard.has_given_up(state, stop_after=STOP_AFTER)) == (in_row == STOP_AFTER)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_value_counts(bad, index):
    values = [jnp.asarray(1.0), jnp.asarray(2.0), jnp.ones(3)]
    values[index] = values[index] * bad
    _, take, _ = guard.judge(guard.init(), values, stop_after=STOP_AFTER)
    assert not take


def test_says_that_it_had_given_up_only_after_the_last_skip():
    state, _ = judge_all([BAD] * (STOP_AFTER - 1))
    state, _, gave_up = guard.judge(state, (jnp.asarray(BAD),), stop_after=STOP_AFTER)
    assert not gave_up
    _, _, gave_up = guard.judge(state, (jnp.asarray(GOOD),), stop_after=STOP_AFTER)
    assert gave_up


def test_choose_keeps_the_sign_of_zero():
    old, new = {"a": jnp.asarray([-0.0, 1.0])}, {"a": jnp.asarray([jnp.nan, 2.0])}
    for take, expected in ((True, new), (False, old)):
        chosen = guard.choose(jnp.asarray(take), new, old)
        assert np.asarray(chosen["a"]).tobytes() == np.asarray(expected["a"]).tobytes()
