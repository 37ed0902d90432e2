"""Random damage of bytes and values, under one rule: a clean error or a right answer."""

import contextlib
import copy
import math
import pathlib
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SECONDS = 30  # for one input, on a busy machine
BYTES = 4 << 30
# What nobody expects where something else stands.
STRANGE = (None, True, -1, 0, 1, 2**31, 2**40, 2**63, 10**30, math.inf, math.nan, -0.5, 1e308)
STRANGE += ("", "a", "\x00", "../x", [], {}, [[]], [None], {"a": 1})

# Damages one input and takes it; raises what the fault leads to.
Attempt = Callable[[np.random.Generator], None]


def damaged_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, cut the end off, or remove, repeat, blank or overwrite a piece."""
    result = bytearray(content)
    start = int(rng.integers(len(result)))
    stop = min(len(result), start + int(rng.integers(1, 64)))
    match int(rng.integers(6)):
        case 0:
            result[start] ^= 1 << int(rng.integers(8))
        case 1:
            del result[start:]
        case 2:
            del result[start:stop]
        case 3:
            result[start:start] = result[start:stop]
        case 4:
            result[start:stop] = bytes(stop - start)
        case 5:
            result[start:stop] = rng.bytes(stop - start)
    return bytes(result)


def damaged_value(value: Any, rng: np.random.Generator) -> Any:
    """Replace, remove or add one or two things, anywhere in nested mappings and lists."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 3))):
        paths = list(_paths(value))
        if paths:
            _damage(*paths[rng.integers(len(paths))], rng)
    return value


def _paths(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with every one of its keys."""
    keys = value if isinstance(value, dict) else range(len(value)) if _is_list(value) else ()
    for key in keys:
        yield value, key
        yield from _paths(value[key])


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _damage(container: Any, key: Any, rng: np.random.Generator) -> None:
    choice = int(rng.integers(5))
    if choice < 3:
        container[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    elif choice == 3:
        del container[key]
    elif _is_list(container):
        container.append(copy.deepcopy(container[key]))
    else:
        container["unheard of"] = 1


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let no input take more than some memory and time: it ends in an error that is not clean."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"expected an end within {SECONDS} seconds")


def count_refused(attempt: Attempt, number: int, clean: tuple[type[Exception], ...]) -> int:
    """Try damaged inputs; return how many were refused.

    Args:
        attempt: Raises where an input is refused; asserts that what it accepts is right.
        number: How many.
        clean: The errors that are clean.

    Raises:
        AssertionError: On any other error; names the seed.
    """
    refused = 0
    with bounded():
        for seed in range(number):
            signal.alarm(SECONDS)
            try:
                attempt(np.random.default_rng(seed))
            except clean as error:
                assert str(error).strip(), f"seed {seed}: an error without a word"
                refused += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return refused
