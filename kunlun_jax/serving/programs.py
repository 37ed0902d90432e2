"""The compiled programs that score candidates: one of the user, and one for every bucket."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from kunlun_jax.data.batch import Batch, batch_shapes
from kunlun_jax.models.registry import create_model
from kunlun_jax.serving.stages import stages
from kunlun_jax.serving.trained import Trained
from kunlun_jax.training.step import apply_model


def chunks(count: int, buckets: Sequence[int]) -> list[int]:
    """Return the buckets that some candidates are scored in, one after the other.

    What is left over is padded where at most a third of the bucket would be padding; otherwise a
    smaller bucket takes a part of it first.

    >>> chunks(230, (1, 10, 30, 100))
    [100, 100, 30]
    >>> chunks(71, (1, 10, 30, 100))
    [100]

    Args:
        count: Candidates.
        buckets: Numbers of candidates that programs take, ascending.
    """
    found: list[int] = []
    while count > 0:
        fits = [bucket for bucket in buckets if bucket <= count]
        holds = [bucket for bucket in buckets if count <= bucket]
        pads = holds and (not fits or 3 * count >= 2 * holds[0])
        found.append(holds[0] if pads else fits[-1])
        count -= found[-1]
    return found


class Programs:
    """Scores candidates of one user; everything is compiled when this is made.

    The attention operations run as XLA has them: nothing is scored of several users at once, which
    is what the kernels are for.

    Attributes:
        buckets: Numbers of candidates that programs take, ascending.
    """

    def __init__(self, trained: Trained, buckets: Sequence[int]) -> None:
        """Trace the model, cut it into stages, and compile these.

        Args:
            trained: The model.
            buckets: Numbers of candidates.
        """
        self.buckets = tuple(sorted(set(buckets)))
        config = dataclasses.replace(
            trained.config, model=dataclasses.replace(trained.config.model, kernels="xla")
        )
        model: Any = create_model(config, trained.schema)

        def logits(variables: Any, histories: Any, contexts: Any) -> Any:
            def of_one(context: Any) -> Any:
                batch: Any = jax.tree.map(lambda x: x[None], context)
                return apply_model(model, *variables, batch.replace(streams=histories))[0]

            return jax.vmap(of_one)(contexts)

        def contexts(count: int) -> Batch:
            return batch_shapes(trained.schema, {}, count)

        self._variables = trained.params, trained.tables
        histories = batch_shapes(trained.schema, trained.max_lens, 1).streams
        sizes = [*self.buckets, self.buckets[-1] + 1]  # two at least
        early, late = stages(
            logits, (self._variables, histories), [contexts(size) for size in sizes]
        )
        prepare, encode = map(jax.jit, early)
        self._of_model = prepare(self._variables)
        of_user = jax.eval_shape(encode, self._variables, self._of_model, histories)
        jobs: list[tuple[Any, tuple[Any, ...]]] = [(encode, (histories,))]
        for size, score in zip(self.buckets, late, strict=False):
            jobs.append((jax.jit(score), (histories, of_user, contexts(size))))

        def compiled(job: Any) -> Any:
            function, arguments = job
            return function.lower(self._variables, self._of_model, *arguments).compile()

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            self._encode, *scores = pool.map(compiled, jobs)
        self._score = dict(zip(self.buckets, scores, strict=True))

    def encode(self, histories: Any) -> tuple[Any, Any]:
        """Return what depends on the user alone, on the device.

        Args:
            histories: Streams of a batch of one example.
        """
        histories = jax.device_put(histories)
        return histories, self._encode(self._variables, self._of_model, histories)

    def score(self, of_user: tuple[Any, Any], contexts: Batch) -> np.ndarray:
        """Return logits, float32 [n, L].

        Args:
            of_user: What `encode` returned.
            contexts: A batch without streams, of as many examples as `chunks` add up to.
        """
        found, first = [], 0
        count = len(contexts.weights)
        for size in chunks(count, self.buckets):
            part = jax.tree.map(lambda x, a=first, b=first + size: x[a:b], contexts)
            run = self._score[size]
            found += run(self._variables, self._of_model, *of_user, part)
            first += size
        assert first == count, f"{count} candidates do not fill buckets"
        return np.concatenate([np.asarray(part) for part in found])
