"""The effective rank of the events' representation, layer by layer.

    erank(Z) = exp(-sum_i p_i log p_i),   p_i = sigma_i / sum_j sigma_j

Z has one row for every event of a split, sigma are its singular values. A rank that falls with
depth means that the layers make events alike.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.layers.probe import PROBES


def make_probe_step(model: nn.Module) -> Callable[[Any, Any, Batch], dict[str, Any]]:
    """Return the pure function (params, tables, batch) -> second moments by sequence and layer.

    Args:
        model: The model.
    """

    def probe_step(params: Any, tables: Any, batch: Batch) -> dict[str, Any]:
        variables = {"params": params, "tables": {"embedding": tables}}
        _, recorded = model.apply(variables, batch, mutable=[PROBES])
        return dict(recorded[PROBES])

    return probe_step


def effective_rank(moment: np.ndarray) -> float:
    """Return erank(Z) in [1, D]; 0 of no events or of zeros alone.

    Args:
        moment: Z^T Z, [D, D].
    """
    eigenvalues = np.linalg.eigvalsh(np.asarray(moment, np.float64))
    singular = np.sqrt(np.maximum(eigenvalues, 0.0))
    if singular.sum() == 0.0:
        return 0.0
    p = singular[singular > 0] / singular.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


class EffectiveRanks:
    """Adds up the moments of a split's batches; the result is that of all of them at once."""

    def __init__(self) -> None:
        self._moments: dict[str, np.ndarray] = {}

    def add(self, moments: Mapping[str, Any]) -> None:
        """Add the moments of a batch.

        Args:
            moments: What a probe step returns.
        """
        for name, moment in moments.items():
            total = self._moments.get(name, 0.0)
            self._moments[name] = total + np.asarray(moment, np.float64)

    def compute(self) -> dict[str, float]:
        """Return the effective ranks, such as "effective_rank/click/layer_1"."""
        return {f"effective_rank/{k}": effective_rank(m) for k, m in self._moments.items()}
