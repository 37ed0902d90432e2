"""Training steps of several models, timed in turns: what disturbs the machine hits all of them."""

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.data import Batch, BatchSource, Dataset, Schema
from kunlun_jax.models.registry import create_model
from kunlun_jax.shapes import Float
from kunlun_jax.training.step import TrainState, create_train_state, make_train_step

CLOCKS = ("wall", "processor")  # what is timed, in the order of the last axis
_NUM_STEPS = 1_000  # of the learning rate's schedule


def train_batches(config: ExperimentConfig, dataset: Dataset, count: int) -> list[Batch]:
    """Return the first batches of the training split, as the experiment would see them."""
    source = BatchSource(
        dataset,
        split="train",
        batch_size=config.data.batch_size,
        max_lens={stream.name: stream.max_len for stream in config.model.streams},
    )
    return [source[index] for index in range(count)]


def _constant(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.full(
        shape.shape, 0.01 if jnp.issubdtype(shape.dtype, jnp.inexact) else 0, shape.dtype
    )


class Contestant:
    """A model in training, on a few batches again and again."""

    def __init__(self, config: ExperimentConfig, schema: Schema, batches: Sequence[Batch]) -> None:
        """Make a state of constants, on which no step's time depends; the first steps compile.

        Args:
            config: The experiment.
            schema: What a batch holds; its tables may differ from the data set's.
            batches: Batches of equal shapes.
        """
        self._batches = batches
        model = create_model(config, schema)

        shapes = jax.eval_shape(
            lambda batch: create_train_state(model, config, batch, num_steps=_NUM_STEPS), batches[0]
        )

        step = make_train_step(model, schema, config, num_steps=_NUM_STEPS)
        self._step: Callable[[TrainState, Batch], TrainState] = jax.jit(step, donate_argnums=0)
        self._state: TrainState = jax.tree.map(_constant, shapes)

    def seconds_per_step(self, num_steps: int) -> tuple[float, float]:
        """Take some steps; return the mean time of one by the clock, and that of processors."""
        jax.block_until_ready(self._state)
        start, busy = time.perf_counter(), time.process_time()
        for number in range(num_steps):
            self._state = self._step(self._state, self._batches[number % len(self._batches)])
        jax.block_until_ready(self._state)
        elapsed, worked = time.perf_counter() - start, time.process_time() - busy
        return elapsed / num_steps, worked / num_steps


def in_turns(
    contestants: Sequence[Contestant], *, rounds: int, steps: int
) -> Float[np.ndarray, "rounds contestants 2"]:
    """Time all contestants in every round, after a first one that compiles.

    Args:
        contestants: Who takes part.
        rounds: How often.
        steps: Steps of each in a round.

    Returns:
        Seconds of a step by the clock, and of all processors.
    """
    for contestant in contestants:
        contestant.seconds_per_step(1)
    return np.asarray(
        [[one.seconds_per_step(steps) for one in contestants] for _ in range(rounds)], np.float64
    )


def gains(times: Float[np.ndarray, "rounds 2 2"]) -> dict[str, list[float]]:
    """Return how much faster the second contestant is than the first, as a share of the first.

    Args:
        times: Of `in_turns`.

    Returns:
        By clock: the lower quartile of the rounds, the median, the upper quartile.
    """
    faster = times[:, 0] / times[:, 1] - 1.0
    quartiles = np.quantile(faster, (0.25, 0.5, 0.75), axis=0)
    return dict(zip(CLOCKS, quartiles.T.tolist(), strict=True))
