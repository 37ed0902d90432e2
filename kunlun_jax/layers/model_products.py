"""Operations of a layer's products, where a trace of what runs would tell others.

A trace multiplies pairs that a mask hides, too, and a layer may reach its equation's result by
fewer products than the equation has. Such a layer says in a scope what its equation takes, so that
FLOPs are the model's, however it is computed (`kunlun_jax.flops`).
"""

import contextlib
import re
from typing import Any

import jax

_SCOPE = re.compile(r"model_products_([0-9]+)")


def model_products(operations: int) -> contextlib.AbstractContextManager[Any]:
    """Name the scope of a layer's matrix products that run otherwise than its equation says.

    Args:
        operations: Floating-point operations per example of the equation's products: of the pairs
            that a mask lets through, of products in the order that the equation has.
    """
    return jax.named_scope(f"model_products_{operations}")


def model_products_of(scope: str) -> int | None:
    """Return what `model_products` was given, if an operation's scope is inside one.

    Args:
        scope: Scopes, joined by "/".
    """
    found = _SCOPE.search(scope)
    return int(found[1]) if found else None


def causal_pairs(num_tokens: int, window: int | None = None) -> int:
    """Return the query-key pairs of causal attention.

    Args:
        num_tokens: Tokens of the sequence.
        window: Tokens seen before the query; None: all.
    """
    w = num_tokens - 1 if window is None else min(window, num_tokens - 1)
    return num_tokens * (w + 1) - w * (w + 1) // 2
