"""Random numbers that are a pure function of a seed, a purpose and counters.

Unlike a generator that is drawn from in order, any of them can be had at any time, by any
worker: the number of example 10^9 costs as much as that of example 0.
"""

import zlib

import numpy as np

MASK = 2**64 - 1


def bits(seed: int, purpose: str, *counters: np.ndarray | int) -> np.ndarray:
    """Return uint64 numbers of 64 random bits, an array of at least one axis.

    Args:
        seed: Any integer.
        purpose: What the numbers are for: other purposes get independent numbers.
        counters: Integers or arrays of them that broadcast; each combination has its number.
    """
    start = (seed ^ (zlib.crc32(purpose.encode()) << 32)) & MASK
    state = mix(np.asarray([start], np.uint64))
    for counter in counters:
        state = mix(state ^ np.asarray(counter).astype(np.uint64))
    return state


def uniform(seed: int, purpose: str, *counters: np.ndarray | int) -> np.ndarray:
    """Return float64 numbers in [0, 1), multiples of 2^-53; arguments as for `bits`."""
    return (bits(seed, purpose, *counters) >> np.uint64(11)) * 2.0**-53


def normal(seed: int, purpose: str, *counters: np.ndarray | int) -> np.ndarray:
    """Return standard normal float64 numbers (Box-Muller); arguments as for `bits`."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, f"{purpose}: radius", *counters)))
    return radius * np.cos(2.0 * np.pi * uniform(seed, f"{purpose}: angle", *counters))


def integers(
    bound: np.ndarray | int, seed: int, purpose: str, *counters: np.ndarray | int
) -> np.ndarray:
    """Return int64 numbers in [0, bound), bound < 2^53; other arguments as for `bits`."""
    return (uniform(seed, purpose, *counters) * bound).astype(np.int64)


def mix(state: np.ndarray) -> np.ndarray:
    """One step of the splitmix64 generator: a bijection that mixes every bit into every other.

    Args:
        state: uint64.
    """
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
