"""How long a function takes on a GPU; what the tuner and the benchmarks measure with.

A call returns before the GPU has run it, so single calls are not timed. Long programs: enqueue
several calls, wait once, divide. Programs shorter than what it costs to enqueue one would leave the
GPU idle in between; theirs is the slope between few and many calls inside one jitted loop, which
every call enters only after the one before it.

Arrays that fit the cache would be read from there, so that small ones rotate among several sets.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent import futures
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

# Seconds: programs below are timed inside a loop. Enqueueing a call takes some 20 us.
SHORT = 100e-6
# Bytes that one set of arrays should have, or all together: twice the cache of an H200.
_BEYOND_CACHE = 120e6
_MIN_SETS, _MAX_SETS = 3, 6
_FEW_CALLS, _MANY_CALLS = 10, 60
OUT_OF_MEMORY = "out of memory"
# A round of slow calls is cut short: a second of them says no more than a few tenths.
_ROUND_SECONDS = 0.2

Name = TypeVar("Name", bound=Hashable)
Arguments = tuple[Any, ...]


class Budget:
    """Seconds to spend, from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when spent."""
        return max(0.0, self._end - time.monotonic())


def num_sets(num_bytes: int | float) -> int:
    """Return how many sets of arrays to rotate among.

    Args:
        num_bytes: what a call reads and writes.
    """
    if num_bytes >= _BEYOND_CACHE:
        return 1
    return int(np.clip(np.ceil(_BEYOND_CACHE / max(num_bytes, 1.0)), _MIN_SETS, _MAX_SETS))


def first_line(error: BaseException) -> str:
    """Return what a table says of a failure."""
    text = str(error).strip() or type(error).__name__
    # A tile too large for a multiprocessor exhausts a resource, too.
    exhausted = "RESOURCE_EXHAUSTED" in text and "shared memory" not in text.lower()
    if exhausted or "out of memory" in text.lower():
        return OUT_OF_MEMORY
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}"


def compile_all(
    jobs: Mapping[Name, Callable[[], Any]], *, workers: int, budget: Budget
) -> dict[Name, Any]:
    """Run compilations side by side; again alone where they ran out of memory.

    XLA tries products on the GPU while it compiles, with arrays of their true size.

    Args:
        jobs: what to compile, by name; functions that return the compiled program.
        workers: threads.
        budget: a job that is not done when it is spent counts as failed.

    Returns:
        The program of every name, or the exception that its compilation ended with.
    """
    pool = futures.ThreadPoolExecutor(workers)
    running = {name: pool.submit(job) for name, job in jobs.items()}
    futures.wait(running.values(), timeout=budget.left)
    pool.shutdown(wait=False, cancel_futures=True)
    results: dict[Name, Any] = {}
    for name, future in running.items():
        if future.cancelled() or not future.done():
            results[name] = TimeoutError("not compiled within the time budget")
        else:
            results[name] = future.exception() or future.result()
    # Compilations under way cannot be stopped, and would disturb the timings.
    futures.wait([future for future in running.values() if not future.cancelled()])
    for name, result in results.items():
        if isinstance(result, Exception) and first_line(result) == OUT_OF_MEMORY and budget.left:
            with contextlib.suppress(Exception):
                results[name] = jobs[name]()
    return results


def seconds_per_call(
    function: Callable[..., Any],
    program: Callable[..., Any],
    sets: Sequence[Arguments],
    *,
    rounds: int = 7,
    calls: int = 20,
) -> float:
    """Return the median time of one call, in seconds.

    Args:
        function: what `program` was compiled from; compiled anew, in a loop, if the calls are
            short.
        program: the compiled function.
        sets: arguments of a call, one tuple for each set of arrays.
        rounds: timings of which the median is returned.
        calls: of a round.
    """
    estimate = _round(program, sets, 1)  # warms up, too
    estimate = _round(program, sets, 2 if estimate > _ROUND_SECONDS else 5)
    calls = int(np.clip(_ROUND_SECONDS / max(estimate, 1e-9), 1, calls))
    rounds = rounds if calls * estimate < 2 * _ROUND_SECONDS else min(rounds, 3)
    seconds = statistics.median(_round(program, sets, calls) for _ in range(rounds))
    return seconds if seconds > SHORT else seconds_in_loop(function, sets, rounds=rounds)


def _round(program: Callable[..., Any], sets: Sequence[Arguments], calls: int) -> float:
    out = None
    start = time.perf_counter()
    for index in range(calls):
        out = program(*sets[index % len(sets)])
    jax.block_until_ready(out)
    return (time.perf_counter() - start) / calls


def seconds_in_loop(
    function: Callable[..., Any], sets: Sequence[Arguments], *, rounds: int = 7
) -> float:
    """Return the median time of one call among others in one jitted loop, in seconds.

    Args:
        function: to be called with each of `sets` in turn.
        sets: arguments of a call.
        rounds: slopes of which the median is returned.
    """
    loop = jax.jit(lambda turns, sets: calls_in_turn(function, turns, sets))
    few, many = (max(1, round(calls / len(sets))) for calls in (_FEW_CALLS, _MANY_CALLS))
    seconds: dict[int, list[float]] = {few: [], many: []}
    for turns in (few, many):
        jax.block_until_ready(loop(turns, sets))
    for _ in range(rounds):
        for turns, measured in seconds.items():
            start = time.perf_counter()
            jax.block_until_ready(loop(turns, sets))
            measured.append(time.perf_counter() - start)
    slow, fast = (statistics.median(seconds[turns]) for turns in (many, few))
    if slow <= fast:  # the calls are lost in the loop's noise, which bounds their time from above
        return slow / (many * len(sets))
    return (slow - fast) / ((many - few) * len(sets))


def forward_and_pull(
    function: Callable[..., Any],
) -> tuple[Callable[..., Any], Callable[[Any, Any], Any]]:
    """Return a function's two passes apart, so that each can be compiled and timed by itself.

    Args:
        function: of a tuple of arrays, and of constants.

    Returns:
        A function of the same arguments that returns the result and what the backward pass needs, a
        list of arrays; and one of that list and the result's cotangent that returns the gradients
        of the tuple. The first is to be traced before the second is.
    """
    structure: list[Any] = []

    def forward(arrays: Arguments, *constants: Any) -> tuple[Any, list[Any]]:
        out, pull = jax.vjp(lambda arrays: function(arrays, *constants), arrays)
        # Two pull functions are never of the same structure, but their arrays mean the same.
        saved, tree = jax.tree.flatten(pull)
        structure[:] = [tree]
        return out, saved

    def pull(saved: Any, cotangent: Any) -> Any:
        return structure[0].unflatten(saved)(cotangent)[0]

    return forward, pull


def calls_in_turn(function: Callable[..., Any], turns: Any, sets: Sequence[Arguments]) -> list[Any]:
    """Call `function` with each set of arguments, `turns` times around.

    The barriers let no call start before the one ahead of it, and hide from the compiler that every
    turn computes the same. All results are carried along, so that none is dropped.
    """

    def one_turn(_, carry):
        sets, results = carry
        previous, called = results[-1], []
        for arguments in sets:
            arguments, _ = jax.lax.optimization_barrier((arguments, previous))
            previous = function(*arguments)
            called.append(previous)
        # The barrier hides from XLA that the arguments are the same in every turn.
        sets, _ = jax.lax.optimization_barrier((sets, previous))
        return sets, called

    shapes = [jax.eval_shape(function, *arguments) for arguments in sets]
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.fori_loop(0, turns, one_turn, (list(sets), nothing))[1]
