"""Parameters that carry logical axis names."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from kunlun_jax.shapes import Array

# (key, shape, dtype) -> array. Wider than jax's protocol, which wants its very argument names.
Initializer = Callable[..., Array]


def parameter(
    module: nn.Module,
    name: str,
    init: Initializer,
    axes: tuple[str | None, ...],
    shape: tuple[int, ...],
) -> Array:
    """Return a float32 parameter of a module, made on its first call.

    Args:
        module: The module that owns it.
        name: Its name there.
        init: Initialiser.
        axes: Logical name of every axis, None for one that is never sharded; `sharding` rules map
            names to mesh axes.
        shape: Its shape.
    """
    value: Any = module.param(name, nn.with_logical_partitioning(init, axes), shape)
    return value
