"""Kunlun, Meta's scaling-law recommender (arXiv:2602.10016), in JAX."""
