"""Seed attention: a few queries, shared by the batch, pool a long sequence."""

from pallas_kernels.seed_attention.api import seed_attention

__all__ = ["seed_attention"]
