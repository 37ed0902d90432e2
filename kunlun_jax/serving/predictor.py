"""Predicts batches of examples by the very program that evaluates."""

import copy

import jax
import numpy as np

from kunlun_jax.config import MeshConfig
from kunlun_jax.data.batch import Batch
from kunlun_jax.metrics.scores import probabilities
from kunlun_jax.models.registry import create_model
from kunlun_jax.serving.trained import Trained
from kunlun_jax.sharding import make_mesh
from kunlun_jax.training.evaluation import Predictor
from kunlun_jax.training.step import make_eval_step


class BatchPredictor:
    """Predicts batches of one size, `config.data.eval_batch_size`, on one device.

    Attributes:
        batch_size: Examples of a batch.
    """

    def __init__(self, trained: Trained) -> None:
        """Compile nothing yet: the first batch does.

        Args:
            trained: The model.
        """
        self._trained, self.batch_size = trained, trained.config.data.eval_batch_size
        self._mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        probe = trained.config.training.log_effective_rank  # or it would be another program
        eval_step = make_eval_step(create_model(trained.config, trained.schema), probe=probe)
        self._predictor = Predictor(eval_step, self._mesh, len(trained.schema.labels))

    def renewed(self, trained: Trained) -> "BatchPredictor":
        """Return the same programs with other weights, of the same configuration and schema."""
        other = copy.copy(self)
        other._trained = trained
        return other

    def predict(self, batch: Batch) -> np.ndarray:
        """Return the probabilities, float64 [n, L], of the examples whose weight is not 0."""
        with jax.set_mesh(self._mesh):
            scores = self._predictor.scores(self._trained.params, self._trained.tables, [batch])
        return probabilities(scores.logits)
