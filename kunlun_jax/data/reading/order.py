"""In which order training sees its examples: endless epochs, each of every example once.

All orders are pure functions of (seed, position), so that a position is all there is to resume:

    WholeShuffle    a permutation of all examples, a new one every epoch
    WindowShuffle   blocks of examples that are stored together, in a new order every epoch; as they
                    come they fill windows, and within a window examples are shuffled
    PeriodShuffle   periods of time one after the other, and within a period examples are shuffled

The first and the last read storage at random; the second a block at a time, one window ahead.
"""

import tempfile
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from kunlun_jax.files import reserve

CACHED = 3  # permutations that are kept: batches straddle two, and threads run ahead
BLOCK = 1024  # examples that are read together
# What a permutation is for; part of its seed.
_EPOCH, _SUBSET, _BLOCKS, _WINDOW, _PERIOD, _PART = range(6)


class Order(Protocol):
    """Examples by position, for ever."""

    def __call__(self, position: np.ndarray) -> np.ndarray:
        """Return the indices of examples.

        Args:
            position: int64 [n], those of a batch, ascending; position // count is the epoch.

        Returns:
            int64 [n], 0 .. count - 1.
        """
        ...


class WholeShuffle:
    """Every epoch in an order of its own."""

    def __init__(self, seed: int, count: int) -> None:
        """Remember what the orders are made of.

        Args:
            seed: Their seed.
            count: Examples, at least one.
        """
        self._count = count
        self._orders = _Cache(lambda epoch: permutation((seed, _EPOCH, epoch), count))

    def __call__(self, position: np.ndarray) -> np.ndarray:
        """Return the indices of examples (`Order`)."""
        return _pick(self._orders, *np.divmod(position, self._count))


class WindowShuffle:
    """Every epoch the blocks in an order of their own, and examples within windows of them."""

    def __init__(
        self, seed: int, count: int, window: int, read_ahead: Callable[[int, int], None]
    ) -> None:
        """Remember what the orders are made of.

        Args:
            seed: Their seed.
            count: Examples, at least one; indexed as they are stored.
            window: Examples of a window.
            read_ahead: Called with the first example of a block and the one behind its last, a
                window before the block is needed.
        """
        self._seed, self._count, self._window = seed, count, window
        self._read_ahead = read_ahead
        self._blocks = _Cache(self._order_of_blocks)
        self._windows = _Cache(self._shuffled_window)

    def __call__(self, position: np.ndarray) -> np.ndarray:
        """Return the indices of examples (`Order`), ascending.

        So processes that share batches read different parts of the window.
        """
        epoch, inside = np.divmod(position, self._count)
        windows = -(-self._count // self._window)
        window, position = np.divmod(inside, self._window)
        return np.sort(_pick(self._windows, epoch * windows + window, position))

    def _order_of_blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first examples of an epoch's blocks, and where in the epoch they begin."""
        firsts = np.arange(0, self._count, BLOCK)
        firsts = firsts[permutation((self._seed, _BLOCKS, epoch), len(firsts))]
        sizes = np.minimum(self._count - firsts, BLOCK)
        return firsts, np.cumsum(sizes) - sizes

    def _shuffled_window(self, index: int) -> np.ndarray:
        epoch, window = divmod(index, -(-self._count // self._window))
        self._announce(epoch, window)
        self._announce(epoch, window + 1)
        start = window * self._window
        size = min(self._window, self._count - start)
        position = start + permutation((self._seed, _WINDOW, epoch, window), size)
        firsts, begins = self._blocks[epoch]
        block = np.searchsorted(begins, position, side="right") - 1
        return firsts[block] + position - begins[block]

    def _announce(self, epoch: int, window: int) -> None:
        """Have the blocks of a window read, if the epoch has it."""
        firsts, begins = self._blocks[epoch]
        first, last = window * self._window, min((window + 1) * self._window, self._count)
        if first >= last:
            return
        start, stop = np.searchsorted(begins, [first, last - 1], side="right") - [1, 0]
        for block in firsts[start:stop]:
            self._read_ahead(int(block), int(min(block + BLOCK, self._count)))


class PeriodShuffle:
    """Periods one after the other, every epoch in the same order.

    Attributes:
        numbers: int64 [periods], their numbers, ascending.
        starts: int64 [periods], the position of the first example of each.
    """

    def __init__(self, seed: int, periods: np.ndarray) -> None:
        """Order the examples; 8 bytes of memory for each.

        Args:
            seed: Of the order within a period.
            periods: int64 [count], the number of every example's period.
        """
        self._order = np.argsort(periods, kind="stable")
        self.numbers, self.starts = np.unique(periods[self._order], return_index=True)
        for number, members in zip(self.numbers.tolist(), self._members(), strict=True):
            members[:] = members[permutation((seed, _PERIOD, number % 2**64), len(members))]

    def __call__(self, position: np.ndarray) -> np.ndarray:
        """Return the indices of examples (`Order`)."""
        return self._order[position % len(self._order)]

    def members(self, index: int) -> np.ndarray:
        """Return the indices of the examples of a period.

        Args:
            index: Of the period in `numbers`.
        """
        return self._members()[index]

    def _members(self) -> list[np.ndarray]:
        return np.split(self._order, self.starts[1:])


def subset(seed: int, count: int, max_examples: int | None) -> np.ndarray | None:
    """Return the indices of the examples that are drawn, ascending; None: all.

    Args:
        seed: Seed of the draw.
        count: Examples.
        max_examples: How many are drawn, if there are more; None: all.
    """
    if max_examples is None or max_examples >= count:
        return None
    return np.sort(permutation((seed, _SUBSET, 0), count)[:max_examples])


def part_seed(seed: int, part: int, num_parts: int) -> int:
    """Return the seed of a part's own orders and draws.

    Args:
        seed: Of the whole.
        part: Number of the part.
        num_parts: Parts; one alone has the seed of the whole.
    """
    if num_parts == 1:
        return seed
    sequence = np.random.SeedSequence((seed, _PART, part, num_parts))
    return int(sequence.generate_state(1, np.uint64)[0])


def permutation(seed: tuple[int, ...], count: int) -> np.ndarray:
    """Return 0 .. count - 1 in a random order, in a file without a name that is mapped.

    So it takes no memory that the system could not have back: 4 bytes an example of disk, where
    temporary files are (`TMPDIR`).

    Args:
        seed: Of the order.
        count: At least 1.

    Raises:
        OSError: If the disk is full.
    """
    dtype = np.dtype(np.int32 if count <= np.iinfo(np.int32).max else np.int64)
    with tempfile.TemporaryFile() as file:
        reserve(file, count * dtype.itemsize)
        order = np.asarray(np.memmap(file, dtype, "r+", shape=(count,)))
    for start in range(0, count, 2**20):
        part = order[start : start + 2**20]
        part[:] = np.arange(start, start + len(part))
    np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).shuffle(order)
    return order


class _Cache:
    """The last results of a function of an index; those farthest from the newest one go."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._results: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        with self._lock:
            if index not in self._results:
                while len(self._results) >= CACHED:
                    del self._results[max(self._results, key=lambda cached: abs(cached - index))]
                self._results[index] = self._make(index)
            return self._results[index]


def _pick(orders: _Cache, index: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return element `position` of order `index`, for arrays of both; `index` ascends."""
    found = np.empty(len(position), np.int64)
    for each in np.unique(index):
        chosen = index == each
        found[chosen] = orders[int(each)][position[chosen]]
    return found
