"""What a kernel costs, from the formula of its operation: products, special functions and bytes.

Counted are the pairs of a query and a key that the operation defines at full lengths. A kernel
visits whole tiles, so that it multiplies more where a window or an end cuts through one, and less
where sequences are shorter than their arrays.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import pallas as pl

# Matrix products of each kernel: every pair of a query and a key takes H multiply-adds in each.
PRODUCTS = {
    "gdpa_forward": 2,
    "gdpa_backward": 5,
    "gdpa_backward_keys": 4,
    "gdpa_backward_queries": 3,
    "window_attention_forward": 2,
    "window_attention_backward_queries": 3,
    "window_attention_backward_keys": 4,
    "seed_attention_forward": 2,
    "seed_attention_backward": 5,
    "seed_attention_backward_seeds": 3,
    "seed_attention_backward_keys": 4,
}

Arrays = Sequence[jax.Array | jax.ShapeDtypeStruct]


class Work(NamedTuple):
    """What an operation does with its pairs.

    Attributes:
        pairs: query-key pairs of one head of one example.
        head_dim: H.
        heads_with_functions: heads that need a transcendental function of each score.
    """

    pairs: int
    head_dim: int
    heads_with_functions: int

    def estimate(
        self, kernel: str, *, heads: int, examples: int, arrays: Arrays
    ) -> pl.CostEstimate:
        """Return the cost for a whole batch, 2 operations a multiply-add.

        Args:
            kernel: one of `PRODUCTS`.
            heads: N.
            examples: B.
            arrays: inputs and outputs; each is moved once.
        """
        pairs = examples * self.pairs
        return pl.CostEstimate(
            flops=2 * heads * pairs * PRODUCTS[kernel] * self.head_dim,
            transcendentals=self.heads_with_functions * pairs,
            bytes_accessed=sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays),
        )


def attended_pairs(num_events: int, window: int) -> int:
    """Return the query-key pairs of a symmetric window, cut at both ends of the stream.

    Args:
        num_events: events T.
        window: events seen to each side.
    """
    w = min(window, num_events - 1)
    return num_events * (2 * w + 1) - w * (w + 1)
