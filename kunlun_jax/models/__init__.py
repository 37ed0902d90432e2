"""Kunlun and the registry of models."""

from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.models.registry import MODELS, create_model

__all__ = ["MODELS", "Kunlun", "create_model"]
