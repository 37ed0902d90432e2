"""The least time that an operation can take on a GPU, from two ceilings measured on it.

A matrix product and a copy give the rates that the hardware reaches in practice. The roofline time
of an operation is the longer of its products at the one and its minimal bytes at the other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pallas_kernels.timing import seconds_per_call

PRODUCT_SIZE = 8192
COPY_BYTES = 8e9  # read and written


class Cost(NamedTuple):
    """What an operation cannot do without.

    Attributes:
        flops: of its matrix products, 2 a multiply-add.
        bytes: each input read once, each output written once.
    """

    flops: float
    bytes: float


class Ceilings(NamedTuple):
    """What a GPU reaches.

    Attributes:
        flops_per_second: in a large bf16 matrix product on random data.
        bytes_per_second: in a large copy, read and written bytes added up.
    """

    flops_per_second: float
    bytes_per_second: float

    def seconds(self, cost: Cost) -> float:
        """Return the roofline time."""
        return max(cost.flops / self.flops_per_second, cost.bytes / self.bytes_per_second)

    def bound(self, cost: Cost) -> str:
        """Return which of the two it is: "arithmetic" or "memory"."""
        arithmetic = cost.flops / self.flops_per_second > cost.bytes / self.bytes_per_second
        return "arithmetic" if arithmetic else "memory"


def measure_ceilings(
    product_size: int = PRODUCT_SIZE, copy_bytes: float = COPY_BYTES, dtype: str = "bfloat16"
) -> Ceilings:
    """Measure both ceilings on the default device.

    Args:
        product_size: rows and columns of the matrices.
        copy_bytes: read and written in the copy.
        dtype: of the matrices.
    """
    left, right = jax.random.normal(jax.random.key(0), (2, product_size, product_size), dtype)
    product = jax.jit(jnp.matmul)
    product_seconds = seconds_per_call(jnp.matmul, product, [(left, right)])
    numbers = jax.random.bits(jax.random.key(1), (int(copy_bytes) // 8,), "uint32")
    # The device's copy, and a kernel that reads and writes: whichever is faster.
    copy_seconds = min(
        seconds_per_call(copy, jax.jit(copy), [(numbers,)]) for copy in (jnp.copy, jnp.invert)
    )
    return Ceilings(2 * product_size**3 / product_seconds, 2 * numbers.nbytes / copy_seconds)
