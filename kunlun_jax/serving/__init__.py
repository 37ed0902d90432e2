"""What a trained model is for: it scores, one user's candidates or many requests."""

from kunlun_jax.serving.ranker import Ranker, load

__all__ = ["Ranker", "load"]
