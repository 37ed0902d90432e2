"""Causal attention in blocks of queries, each with the keys that one of them sees, and no others.

The square of all pairs would be twice as much work, and with a window many times.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kunlun_jax.shapes import Bool, Int

# Queries of a block: smaller ones compute fewer masked pairs, larger ones are fewer operations. A
# step of HSTU and of TokenFormer with 174 tokens takes as long with 32 as with 64, on a CPU.
_SIZE = 64


class CausalBlock(NamedTuple):
    """Some queries, and the keys that at least one of them sees.

    Attributes:
        queries: Places of t queries.
        keys: Places of s keys.
        distance: Places from each key to each query; negative: the key is later.
        seen: Whether the query sees the key.
    """

    queries: slice
    keys: slice
    distance: Int[np.ndarray, "M S"]
    seen: Bool[np.ndarray, "M S"]


def causal_blocks(num_tokens: int, window: int | None = None) -> Iterator[CausalBlock]:
    """Yield the blocks whose queries, one block after the other, are the whole sequence.

    Args:
        num_tokens: Length of the sequence.
        window: Tokens before it that a query sees beside itself; None: all.
    """
    reach = num_tokens if window is None else window
    for begin in range(0, num_tokens, _SIZE):
        queries = slice(begin, min(begin + _SIZE, num_tokens))
        keys = slice(max(0, begin - reach), queries.stop)
        distance = np.arange(queries.start, queries.stop)[:, None] - np.arange(
            keys.start, keys.stop
        )
        yield CausalBlock(queries, keys, distance, (distance >= 0) & (distance <= reach))
