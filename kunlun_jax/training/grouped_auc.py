"""The AUC within users, under the name that programs import; see `kunlun_jax.metrics`."""

from kunlun_jax.metrics.grouped_auc import grouped_auc

__all__ = ["grouped_auc"]
