"""Kunlun, its peers, and the registry of models."""

from kunlun_jax.models.din import DIN
from kunlun_jax.models.hstu import HSTU
from kunlun_jax.models.interformer import InterFormer
from kunlun_jax.models.kunlun import Kunlun
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.registry import MODELS, create_model
from kunlun_jax.models.tokenformer import TokenFormer
from kunlun_jax.models.unidot import UniDot
from kunlun_jax.models.wukong import Wukong

__all__ = [
    "DIN",
    "HSTU",
    "MODELS",
    "InterFormer",
    "Kunlun",
    "Recommender",
    "TokenFormer",
    "UniDot",
    "Wukong",
    "create_model",
]
