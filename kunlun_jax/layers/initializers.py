"""Initialisers of the aligned start (docs/model.md#aligned-start).

Candidate and history meet only inside attention. If both sides pass through independent random
projections, a model has to discover from noise that equal ids mean something; with these starts
the score between a summary slot and an event is the similarity of their embeddings from step one.
"""

import jax
import jax.numpy as jnp
from jax.nn.initializers import normal

from kunlun_jax.layers.parameters import Initializer

# One key for every projection between the global width and a stream's width: the event side and
# the key side then start as the same orthogonal map without sharing a parameter.
_SHARED_PROJECTION_SEED = 0


def copy_slots(noise: float) -> Initializer:
    """Return an initialiser of a token-axis map [out, in] whose row i copies input i mod in.

    Args:
        noise: Standard deviation of the noise, divided by sqrt(in).
    """

    def init(key, shape, dtype=jnp.float32):
        out, inputs = shape
        copies = jax.nn.one_hot(jnp.arange(out) % inputs, inputs, dtype=dtype)
        return copies + normal(noise / inputs**0.5)(key, shape, dtype)

    return init


def shared_projection(noise: float = 0.0) -> Initializer:
    """Return an initialiser of [in, out] that keeps inner products: the identity if in == out.

    Otherwise a (semi-)orthogonal matrix, the same for every parameter of that shape, scaled so
    that unit-variance inputs give unit-variance outputs.

    Args:
        noise: Standard deviation of the noise, divided by sqrt(in).
    """

    def init(key, shape, dtype=jnp.float32):
        inputs, out = shape
        if inputs == out:
            base = jnp.eye(inputs, dtype=dtype)
        else:
            shared = jax.random.key(_SHARED_PROJECTION_SEED)
            base = jax.nn.initializers.orthogonal()(shared, shape, dtype)
            base = base * max(1.0, out / inputs) ** 0.5
        return base + normal(noise / inputs**0.5)(key, shape, dtype)

    return init
