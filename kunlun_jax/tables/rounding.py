"""Stochastic rounding to bfloat16: right on average, where rounding to nearest loses small steps.

A bfloat16 number has 8 significant bits, so a step of less than 2^-9 of a weight would be lost, and
those of an embedding's row soon are less. Rounded up with the probability by which the number lies
above its lower neighbour, the step is taken in expectation.

The random bits are a pure function of seed, step, table and row: a resumed run rounds as one that
was never stopped, and the number of devices does not matter.
"""

import zlib

import jax
import jax.numpy as jnp

from kunlun_jax.shapes import Array, Float, Int, Shaped


def rounding_key(seed: int, step: Int[Array, ""], table: str) -> Shaped[Array, ""]:
    """Return the random key of a step's update of a table.

    Args:
        seed: Seed of the run.
        step: Steps taken before.
        table: Name of the table.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(f"rounding of {table}".encode()))
    return jax.random.fold_in(key, step)


def round_stochastically(
    values: Float[Array, "U W"], key: Shaped[Array, ""], rows: Int[Array, "U"]
) -> Float[Array, "U W"]:
    """Return float32 values rounded to one of their two neighbours in bfloat16.

    Probabilities are multiples of 2^-16, which is what float32 has beyond bfloat16; a value that
    bfloat16 has stays, and so does one that is not finite.

    Args:
        values: Rows of a table.
        key: As `rounding_key` returns it.
        rows: The indices of the rows in the whole table; row i's bits depend on no other row.
    """

    def bits_of(row: Int[Array, ""]) -> Array:
        pairs = jax.random.bits(jax.random.fold_in(key, row), (-(-values.shape[1] // 2),))
        return jnp.stack([pairs & 0xFFFF, pairs >> 16], axis=1).ravel()[: values.shape[1]]

    exact = jax.lax.bitcast_convert_type(values, jnp.uint32)
    carried = (exact + jax.vmap(bits_of)(rows)) >> 16
    rounded = jax.lax.bitcast_convert_type(carried.astype(jnp.uint16), jnp.bfloat16)
    return jnp.where(jnp.isfinite(values), rounded, values.astype(jnp.bfloat16))
