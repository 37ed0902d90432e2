"""Checks of what a caller hands to a public function; every message says expected and got."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array


def check_shape(name: str, array: Array, expected: Sequence[int | None], legend: str) -> None:
    """Check the shape of `array`; None in `expected` matches any size from 1 on.

    Raises:
        ValueError: another rank or size than expected.
    """
    matches = len(array.shape) == len(expected) and all(
        have > 0 if want is None else want == have
        for want, have in zip(expected, array.shape, strict=True)
    )
    if not matches:
        sizes = ", ".join(">= 1" if size is None else str(size) for size in expected)
        raise ValueError(f"{name}: expected shape {legend} = ({sizes}), got {tuple(array.shape)}")


def check_floating(arrays: dict[str, Array]) -> None:
    """Check that the arrays share one floating dtype.

    Raises:
        ValueError: a dtype is not floating, or differs from the first one's.
    """
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name}: expected a floating dtype, got {array.dtype}")
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name}: expected the dtype of {first_name}, {first.dtype}, got {array.dtype}"
            )


def checked_lengths(name: str, lengths: Array | None, batch: int, size: int) -> Array | None:
    """Return the lengths as int32, cut to 0..size; None for None.

    A kernel reads as many rows as it is told: beyond the array they would be another example's.

    Raises:
        ValueError: another shape than [B], or a dtype that is not an integer.
    """
    if lengths is None:
        return None
    check_shape(name, lengths, (batch,), "[B]")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"{name}: expected an integer dtype, got {lengths.dtype}")
    # Cut before they are made int32, in which a longer number would be another one; short dtypes
    # may not hold the size.
    if lengths.dtype.itemsize < 4:
        lengths = lengths.astype(jnp.int32)
    return jnp.clip(lengths, 0, size).astype(jnp.int32)
