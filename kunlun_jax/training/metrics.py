"""The metrics of a training run, under the name that programs import; see `kunlun_jax.metrics`."""

from kunlun_jax.metrics.binary_metrics import (
    MetricState,
    binary_cross_entropy,
    binary_entropy,
    compute,
    init,
    merge,
    update,
)

__all__ = [
    "MetricState",
    "binary_cross_entropy",
    "binary_entropy",
    "compute",
    "init",
    "merge",
    "update",
]
