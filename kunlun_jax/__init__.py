"""Kunlun, Meta's scaling-law recommender (arXiv:2602.10016), in JAX."""

from kunlun_jax import interrupts  # first of all: it is there before what takes seconds to import
from kunlun_jax.front_door import load

__all__ = ["interrupts", "load"]
