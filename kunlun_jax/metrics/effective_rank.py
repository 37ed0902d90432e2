"""The effective rank of the events' representation, layer by layer.

    erank(Z) = exp(-sum_i p_i log p_i),   p_i = sigma_i / sum_j sigma_j

Z has one row for every event of a split, sigma are its singular values. A rank that falls with
depth means that the layers make events alike.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


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
            moments: Second moments by name, as an evaluation step returns them.
        """
        for name, moment in moments.items():
            total = self._moments.get(name, 0.0)
            self._moments[name] = total + np.asarray(moment, np.float64)

    def compute(self) -> dict[str, float]:
        """Return the effective ranks, such as "effective_rank/click/layer_1"."""
        return {f"effective_rank/{k}": effective_rank(m) for k, m in self._moments.items()}
