"""A few examples at a time, so that the scores of an attention stay in the caches of a CPU."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

SCORE_BYTES = 4  # of one score, which is float32
# What `map_examples` saves for the backward pass: results of `checkpoint_name` of this name.
SAVED = "saved by the attention"
# Scores that a core works on at once. Half of a core's second-level cache of today: cotangents of
# the scores are as large and live beside them.
_BYTES_A_CORE = 2**20
# Fewer examples than this share of what would fit are not worth the loop.
_LEAST_SHARE = 0.25


def map_examples(function: Callable[..., Array], *arrays: Array | None, score_bytes: int) -> Array:
    """Apply a function that treats every example alike, a chunk of the batch at a time on CPUs.

    XLA writes the scores of a whole batch to memory and reads them again for every step of the
    attention; those of a chunk stay in cache. The backward pass does not read a chunk's scores, it
    makes them again, which is cheaper than memory; what is named `SAVED` it reads. On other
    backends the function sees the batch.

    Args:
        function: From arrays of any leading size b to [b, ...].
        arrays: Its arguments, [B, ...] or None.
        score_bytes: Bytes of the scores of one example.

    Returns:
        [B, ...], the function's results in order.
    """
    batch = jax.tree.leaves(arrays)[0].shape[0]
    size = examples_in_chunk(batch, score_bytes)
    if size == batch:
        return function(*arrays)
    chunks: tuple[Array | None, ...] = jax.tree.map(
        lambda x: x.reshape(batch // size, size, *x.shape[1:]), arrays
    )
    saved = jax.checkpoint_policies.save_only_these_names(SAVED)
    remade = jax.checkpoint(function, prevent_cse=False, policy=saved)
    out = jax.lax.map(lambda chunk: remade(*chunk), chunks)
    return out.reshape(batch, *out.shape[2:])


def examples_in_chunk(batch: Any, score_bytes: int) -> Any:
    """Return how many examples `map_examples` takes at once: a divisor of the batch.

    Args:
        batch: Examples B; a symbol where any batch is exported, which is taken whole.
        score_bytes: Bytes of the scores of one example.
    """
    if jax.default_backend() != "cpu" or not isinstance(batch, int):
        return batch
    fits = max(1, _BYTES_A_CORE * num_cores() // score_bytes)
    size = max(divisor for divisor in range(1, min(fits, batch) + 1) if batch % divisor == 0)
    return batch if size < _LEAST_SHARE * fits else size


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: the cores that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
