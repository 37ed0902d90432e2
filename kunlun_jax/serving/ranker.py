"""The front door: a trained run, opened to score one user's candidates, or many requests.

    ranker = kunlun_jax.load("runs/base")
    ranker.score(user, {"item": [17, 4, 99]})
    ranker.predict(requests)

Probabilities come out, a row for each candidate or request and a column for each task.
"""

import collections
import copy
import hashlib
import os
import pickle
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from kunlun_jax.data.reading.gather import matching
from kunlun_jax.data.reading.request_histories import Histories
from kunlun_jax.data.reading.request_values import RequestError, require_known
from kunlun_jax.data.reading.requests import (
    Request,
    batch_requests,
    candidate_columns,
    read_user,
)
from kunlun_jax.metrics.scores import probabilities
from kunlun_jax.serving.keys import Keys
from kunlun_jax.serving.predictor import BatchPredictor
from kunlun_jax.serving.programs import Programs, apart, chunks
from kunlun_jax.serving.trained import Trained, open_trained

BUCKETS = (1, 10, 30, 100)
CACHED_USERS = 256


def load(
    workdir: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    buckets: Sequence[int] = BUCKETS,
    cached_users: int = CACHED_USERS,
    numbered: bool = False,
) -> "Ranker":
    """Open a trained run to score with its best checkpoint; compiles what `score` needs.

    Nothing is written or locked, and the data set need not be there.

    Args:
        workdir: The run's working directory.
        dataset: Directory of its data set, of a run that an earlier version trained.
        buckets: Numbers of candidates that programs are compiled for. More candidates than the
            largest are scored in several of them.
        cached_users: Users whose side is kept, the last ones.
        numbered: Whether ids of requests are the data set's numbers although its tables had keys.

    Raises:
        ValueError: As `open_trained`, or if there is no bucket or one below 1.
        OSError: Likewise.
    """
    return Ranker(
        open_trained(workdir, dataset=dataset),
        buckets=buckets,
        cached_users=cached_users,
        numbered=numbered,
    )


class Ranker:
    """A trained model that scores; may be used by several threads.

    Attributes:
        schema: The data set's schema.
        tasks: Names of the tasks: the columns of scores.
        step: Step of the checkpoint.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        buckets: Sequence[int] = BUCKETS,
        cached_users: int = CACHED_USERS,
        numbered: bool = False,
    ) -> None:
        """Compile; as `load`, of which the arguments are.

        Args:
            trained: The model.
            buckets: Numbers of candidates.
            cached_users: Users whose side is kept.
            numbered: Whether ids are numbers.

        Raises:
            ValueError: If there is no bucket, or one below 1.
        """
        if not buckets or min(buckets) < 1:
            raise ValueError(f"buckets: expected numbers of candidates >= 1, got {buckets!r:.60}")
        self._trained = trained
        self.schema, self.step = trained.schema, trained.step
        self.tasks = trained.schema.labels
        self._keys = Keys(self.schema, trained.vocabularies) if trained.has_keys else None
        if numbered:
            self._keys = None
        self._programs = Programs(trained, buckets)
        self._predictor = BatchPredictor(trained)
        self._histories = _LastUsed(cached_users)
        self._encoded = _LastUsed(cached_users)

    def score(self, user: Request, candidates: Mapping[str, Any]) -> np.ndarray:
        """Score candidates of one user at one time.

        What does not depend on the candidate is computed once for a user and a time, and kept
        (`serving/stages.py`): the second call with the same events is faster.

        Args:
            user: The request but for the candidates: time, histories, and the features of the
                context that all candidates share.
            candidates: Columns by context feature, one value a candidate, as `Request` has them.

        Returns:
            Probabilities, float64 [candidates, tasks].

        Raises:
            RequestError: On what contradicts the schema (`data/reading/requests.py`), columns of
                several lengths, or a feature of both the user and the candidates.
        """
        return self.start(user, candidates)()

    def start(self, user: Request, candidates: Mapping[str, Any]) -> Callable[[], np.ndarray]:
        """Begin to score; returns the function that waits for the scores.

        While the device computes, the next request can be read: what several threads would do to
        the very bits of the scores, this does not.

        Args:
            user: As of `score`.
            candidates: Likewise.

        Raises:
            RequestError: Likewise.
        """
        context, given = self._checked(user, candidates)
        digest = _fingerprint(user.events)
        histories = self._histories.get(digest, lambda: self._read(user))
        columns = candidate_columns(context, histories, given, self.schema)
        count, is_real = len(columns.examples.labels), np.ones(1, bool)
        padded = np.minimum(np.arange(sum(chunks(count, self._programs.buckets))), count - 1)
        contexts = columns.batch(padded, is_real, {})

        def encode() -> tuple[Any, Any]:
            batch = columns.batch(np.zeros(1, int), is_real, self._trained.max_lens)
            of_user, _ = apart(batch)
            return of_user, self._programs.encode(of_user)

        time = int(columns.examples.request_times[0])
        of_user, encoded = self._encoded.get(digest and (digest, time), encode)
        offered = {n: np.asarray(feature.ids) for n, feature in contexts.sparse.items()}
        shared = self.schema.shared_ids
        matches = {
            name: {n: matching(np.asarray(events.ids[n]), offered[n]) for n in shared[name]}
            for name, events in of_user.items()
        }
        parts = self._programs.start(encoded, (contexts, matches))
        return lambda: probabilities(np.concatenate([np.asarray(x) for x in parts])[:count])

    def _read(self, user: Request) -> Histories:
        if self._keys is not None:
            user = self._keys.numbered_events(user, "user")
        return read_user(user, self.schema, self._trained.max_lens)

    def renewed(self, trained: Trained) -> "Ranker":
        """Return a ranker of another checkpoint of the run; nothing is compiled, no user is kept.

        Args:
            trained: The model, from the same run.

        Raises:
            ValueError: If it is of another run.
        """
        for name in ("config", "schema", "vocabularies"):
            if getattr(trained, name) != getattr(self._trained, name):
                raise ValueError(f"expected a checkpoint of the same run, got another {name}")
        other = copy.copy(self)
        other._trained, other.step = trained, trained.step
        other._programs = self._programs.renewed(trained)
        other._predictor = self._predictor.renewed(trained)
        other._encoded = _LastUsed(self._encoded.size)
        return other

    def predict(self, requests: Sequence[Request]) -> np.ndarray:
        """Score requests of any users, in batches as evaluation has them.

        Args:
            requests: Any number of them.

        Returns:
            Probabilities, float64 [requests, tasks].

        Raises:
            RequestError: On what contradicts the schema.
        """
        size = self._predictor.batch_size
        if self._keys is not None:
            requests = [self._keys.numbered(r, f"request {i}") for i, r in enumerate(requests)]
        found = [np.empty((0, len(self.tasks)))]
        for first in range(0, len(requests), size):
            batch = batch_requests(
                requests[first : first + size],
                self.schema,
                max_lens=self._trained.max_lens,
                batch_size=size,
            )
            found.append(self._predictor.predict(batch))
        return np.concatenate(found)

    def _checked(
        self, user: Request, candidates: Mapping[str, Any]
    ) -> tuple[Request, dict[str, Sequence[Any]]]:
        """Return user and candidates, with the data set's numbers in the place of keys.

        The user's events stay as they are.
        """
        dense, sparse = ([f.name for f in x] for x in (self.schema.dense, self.schema.sparse))
        require_known("candidates", candidates, [*dense, *sparse])
        for name, column in candidates.items():
            if isinstance(column, str) or not hasattr(column, "__len__"):
                raise RequestError(f"candidates: {name!r}: expected a column, got {column!r:.60}")
        lengths = {name: len(column) for name, column in candidates.items()}
        if not lengths or len(set(lengths.values())) > 1 or not min(lengths.values()):
            raise RequestError(
                f"candidates: expected columns of one length >= 1, got lengths {lengths}"
            )
        both = sorted(candidates.keys() & (user.dense.keys() | user.sparse.keys()))
        if both:
            raise RequestError(
                f"candidates: expected features that the user does not have too, got {both[0]!r}"
            )
        if self._keys is not None:
            user = self._keys.numbered_context(user, "user")
        return user, {name: self._column(name, column) for name, column in candidates.items()}

    def _column(self, name: str, column: Any) -> Sequence[Any]:
        column = column.tolist() if isinstance(column, np.ndarray) else column
        vocabularies = {f.name: f.vocabulary for f in self.schema.sparse}
        if self._keys is None or name not in vocabularies:
            return column
        return self._keys.context(column, vocabularies[name], f"candidates: {name!r}")


def _fingerprint(value: Any) -> bytes | None:
    """Return a digest of a value, another one if anything in it is another; None: it has none."""
    try:
        return hashlib.blake2b(pickle.dumps(value, protocol=5), digest_size=32).digest()
    except (pickle.PicklingError, TypeError, AttributeError):  # what cannot be written down
        return None


class _LastUsed:
    """Keeps what was made of the users that were asked for last."""

    def __init__(self, size: int) -> None:
        self.size, self._lock = size, threading.Lock()
        self._kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what was kept by a key, or what `make` makes; None is no key."""
        if key is None:
            return make()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
        return made
