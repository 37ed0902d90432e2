"""Pairs of an attention that its mask lets through, and how a traced program says them.

The shapes of a trace tell what is multiplied, and a masked pair is multiplied, too. So a layer
whose attention has a mask of fixed form says in a scope what of it is of use (`kunlun_jax.flops`).
"""

import contextlib
import re
from typing import Any

import jax

_SCOPE = re.compile(r"masked_products_([0-9]+)")


def masked_products(useful: int) -> contextlib.AbstractContextManager[Any]:
    """Name the scope of an attention's matrix products, of which a mask hides a part.

    Args:
        useful: Floating-point operations per example of the pairs that the mask lets through.
    """
    return jax.named_scope(f"masked_products_{useful}")


def useful_products(scope: str) -> int | None:
    """Return what `masked_products` was given, if an operation's scope is inside one.

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
