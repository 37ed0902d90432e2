"""The compiled programs that score candidates: one of the user, and one for every bucket."""

import concurrent.futures
import copy
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax

from kunlun_jax.data.batch import Batch, EventBatch, batch_shapes
from kunlun_jax.models.recommender import Recommender
from kunlun_jax.models.registry import create_model
from kunlun_jax.serving.packing import Packing
from kunlun_jax.serving.stages import Stage, stages
from kunlun_jax.serving.trained import Trained
from kunlun_jax.training.step import apply_model

# A batch in three parts: its streams without the matches, the matches, and everything else.
Histories = dict[str, EventBatch]
Matches = dict[str, dict[str, Any]]
Candidates = tuple[Batch, Matches]
Encoded = tuple[Histories, list[Any]]


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


def apart(batch: Batch) -> tuple[Histories, Candidates]:
    """Return what of a batch is the same for all candidates of a user, and what is not.

    Args:
        batch: A batch, or its shapes.
    """
    matches = {name: events.matches for name, events in batch.streams.items()}
    histories = {
        name: dataclasses.replace(events, matches={}) for name, events in batch.streams.items()
    }
    return histories, (dataclasses.replace(batch, streams={}), matches)


def pair_logits(model: Recommender) -> Callable[[Any, Histories, Candidates], Any]:
    """Return the function (variables, histories, candidates) -> logits [n, L].

    What of it does not depend on the candidate has no axis of candidates.

    Args:
        model: The model.
    """

    def logits(variables: Any, histories: Histories, candidates: Candidates) -> Any:
        params, tables = variables

        def of_one(context: Any, matches: Any) -> Any:
            batch, matches = jax.tree.map(lambda x: x[None], (context, matches))
            streams = {
                name: dataclasses.replace(events, matches=matches[name])
                for name, events in histories.items()
            }
            batch = dataclasses.replace(batch, streams=streams)
            return apply_model(model, params, tables, batch)[0]

        return jax.vmap(of_one)(*candidates)

    return logits


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

        def candidates(count: int) -> Candidates:
            return apart(batch_shapes(trained.schema, trained.max_lens, count))[1]

        self._variables = trained.params, trained.tables
        histories, _ = apart(batch_shapes(trained.schema, trained.max_lens, 1))
        sizes = [*self.buckets, self.buckets[-1] + 1]  # two at least
        early, late = stages(
            pair_logits(model), (self._variables, histories), [candidates(size) for size in sizes]
        )
        self._prepare, encode = map(jax.jit, early)
        self._of_model = self._prepare(self._variables)
        of_user = jax.eval_shape(encode, self._variables, self._of_model, histories)
        self._packings = {size: Packing(candidates(size)) for size in self.buckets}
        jobs: list[tuple[Any, tuple[Any, ...]]] = [(encode, (histories,))]
        for packing, score in zip(self._packings.values(), late, strict=False):
            jobs.append((_packed(score, packing), (histories, of_user, packing.packed_shapes)))

        def compiled(job: Any) -> Any:
            function, arguments = job
            return function.lower(self._variables, self._of_model, *arguments).compile()

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            self._encode, *scores = pool.map(compiled, jobs)
        self._score = dict(zip(self.buckets, scores, strict=True))

    def renewed(self, trained: Trained) -> "Programs":
        """Return the same compiled programs with other weights.

        Args:
            trained: The model, of the same configuration and schema.
        """
        other = copy.copy(self)
        other._variables = trained.params, trained.tables
        other._of_model = self._prepare(other._variables)
        return other

    def encode(self, histories: Histories) -> Encoded:
        """Return histories with what depends on them alone, on the device.

        Args:
            histories: Of a batch of one example.
        """
        histories = jax.device_put(histories)
        return histories, self._encode(self._variables, self._of_model, histories)

    def start(self, encoded: Encoded, candidates: Candidates) -> list[jax.Array]:
        """Begin to score; returns parts of the logits, float32 [n, L], that the device may yet owe.

        Args:
            encoded: What `encode` returned.
            candidates: As many as some `chunks` add up to.
        """
        found, first, count = [], 0, len(candidates[0].weights)
        for size in chunks(count, self.buckets):
            rows = slice(first, first + size)
            part = jax.tree.map(lambda x, rows=rows: x[rows], candidates)
            packed = self._packings[size].pack(part)
            found += self._score[size](self._variables, self._of_model, *encoded, packed)
            first += size
        return found


def _packed(score: Stage, packing: Packing) -> Any:
    """Return the last stage, jitted, with the candidates packed."""

    def function(variables: Any, of_model: Any, histories: Any, of_user: Any, packed: Any) -> Any:
        return score(variables, of_model, histories, of_user, packing.unpack(packed))

    return jax.jit(function)
