"""Evaluation of a whole split: metrics that do not depend on how it is cut into batches."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.reading.pipeline import BatchSource, make_train_iterator
from kunlun_jax.metrics import binary_metrics
from kunlun_jax.metrics.effective_rank import EffectiveRanks
from kunlun_jax.metrics.grouped_auc import UserScores
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.sharding import BatchShare, batch_sharding, replicated

_GUARD = 32  # examples; the rows that were seen to differ are one vector of instructions, 8


class _Seen(NamedTuple):
    """What the metrics by user need of a batch; arrays on every device, so on every process."""

    user_ids: Any
    logits: Any
    labels: Any
    weights: Any

    def add_to(self, scores: UserScores) -> None:
        """Append it to what was collected so far."""
        scores.append(**{name: np.asarray(array) for name, array in self._asdict().items()})


def _guarded(batch: Batch) -> Batch:
    """Append examples of weight 0, so that no real one is among the last rows of an array."""
    longer = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], _GUARD, 0)]), batch)
    return longer.replace(weights=jnp.pad(batch.weights, (0, _GUARD)))


class Predictor:
    """Predicts batches; all processes together, each with the whole result.

    On one device a prediction does not depend on where in its batch an example stands, in no bit:
    XLA computes the last rows of an array by other instructions, which round otherwise, and no
    example is among those.
    """

    def __init__(self, eval_step: Callable[..., Any], mesh: Mesh, num_tasks: int) -> None:
        """Compile nothing yet.

        Args:
            eval_step: (params, tables, metrics, batch) -> (metrics, logits, moments).
            mesh: The devices; they share every batch.
            num_tasks: Tasks.
        """
        self._mesh, self._everywhere, self._num_tasks = mesh, replicated(mesh), num_tasks

        @functools.wraps(eval_step)
        def with_seen(params: Any, tables: Any, state: Any, batch: Batch) -> Any:
            size = len(batch.weights)
            longer = batch if mesh.size > 1 else _guarded(batch)
            state, logits, moments = eval_step(params, tables, state, longer)
            seen = _Seen(batch.user_ids, logits[:size], batch.labels, batch.weights)
            return state, seen, moments

        self._eval_step = jax.jit(
            with_seen,
            in_shardings=(None, None, self._everywhere, batch_sharding(mesh)),
            out_shardings=self._everywhere,
        )

    def scores(self, params: Any, tables: Any, batches: Iterable[Batch]) -> Scores:
        """Return the prediction of every example, without the padding of the last batch.

        Args:
            params: Dense parameters.
            tables: Embedding tables.
            batches: Batches of one shape, at least one, as a step takes them (`BatchShare`).
        """
        state, collected = self._no_metrics(), UserScores()
        for batch in batches:
            _, seen, _ = self._eval_step(params, tables, state, batch)
            seen.add_to(collected)
        return collected.scores()

    def _no_metrics(self) -> binary_metrics.MetricState:
        return jax.device_put(binary_metrics.init(self._num_tasks), self._everywhere)


class Evaluator(Predictor):
    """Evaluates parameters on splits.

    Attributes:
        label_rates: Weighted mean label of the training split, one a task.
        tasks: Names of the tasks.
        task_weights: Of the tasks, in the mean over them; None: all the same.
    """

    def __init__(
        self,
        eval_step: Callable[..., Any],
        mesh: Mesh,
        *,
        label_rates: list[float],
        tasks: tuple[str, ...],
        task_weights: tuple[float, ...] | None = None,
    ) -> None:
        """Compile nothing yet; remember what the metrics need.

        Args:
            eval_step: As of `Predictor`.
            mesh: The devices.
            label_rates: Weighted mean label of the training split, one a task.
            tasks: Names of the tasks.
            task_weights: Of the tasks, in the mean over them; None: all the same.
        """
        super().__init__(eval_step, mesh, len(tasks))
        self.label_rates = label_rates
        self.tasks, self.task_weights = tasks, task_weights

    def compute(self, state: binary_metrics.MetricState) -> dict[str, float]:
        """Turn the sums of a split, or of training, into metrics (`binary_metrics.compute`)."""
        return binary_metrics.compute(
            state, label_rate=self.label_rates, tasks=self.tasks, task_weights=self.task_weights
        )

    def evaluate(
        self, params: Any, tables: Any, source: BatchSource, *, scores: UserScores | None = None
    ) -> dict[str, float]:
        """Return all metrics of a split, GAUC and, if probed, effective ranks among them.

        "auc_roc" is exact, as GAUC is: both are made from the score of every example, of which all
        processes keep about 20 bytes. So there is no "auc_roc_margin".

        Args:
            params: Dense parameters.
            tables: Embedding tables.
            source: The split's batches, in order; this process's share of them.
            scores: Gets the predictions, for whoever wants to see more of them than metrics.

        Raises:
            DatasetError: If the data turn out to be damaged.
        """
        state, ranks = self._no_metrics(), EffectiveRanks()
        scores = UserScores() if scores is None else scores
        share = BatchShare(self._mesh, source.batch_size)
        for batch in make_train_iterator(source, num_threads=1, prefetch=2):
            state, seen, moments = self._eval_step(params, tables, state, share.put(batch))
            ranks.add(moments)
            seen.add_to(scores)
        source.confirm()
        result = self.compute(state)
        for index, task in enumerate(self.tasks):
            prefix = f"{task}/" if len(self.tasks) > 1 else ""
            del result[f"{prefix}auc_roc_margin"]
            result[f"{prefix}auc_roc"] = scores.auc_roc(index)
            result[f"{prefix}gauc"] = scores.grouped_auc(index)
        return {**result, **ranks.compute()}
