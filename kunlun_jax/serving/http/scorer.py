"""One thread owns the ranker: jobs wait in a bounded queue, and are scored in micro-batches.

A micro-batch is what waits when the thread is free. While the device computes one request of it,
the next one is read; each runs through the same programs as alone, so that its scores are those of
`Ranker.score` in every bit. Another checkpoint is taken between two micro-batches.
"""

import collections
import concurrent.futures
import dataclasses
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kunlun_jax.serving.http.bodies import Query
from kunlun_jax.serving.http.histories import Histories
from kunlun_jax.serving.http.metrics import Metrics
from kunlun_jax.serving.ranker import Ranker
from kunlun_jax.serving.trained import Trained

_FORGETTING = 0.1  # of the running mean of seconds a request


class QueueFullError(RuntimeError):
    """No room for another request.

    Attributes:
        retry_after: Seconds after which there may be.
    """

    def __init__(self, retry_after: int) -> None:
        """Say when to come again."""
        super().__init__(f"expected room in the queue, got none; retry after {retry_after} s")
        self.retry_after = retry_after


class DeadlineError(RuntimeError):
    """A request whose deadline passed before it was scored."""


class ClosedError(RuntimeError):
    """A request after the scorer was closed."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """The answer to a query.

    Attributes:
        step: Step of the checkpoint that scored it.
        values: Probabilities, float64 [candidates, tasks].
    """

    step: int
    values: np.ndarray


@dataclasses.dataclass
class _Job:
    query: Query
    deadline: float
    entered: float
    answer: concurrent.futures.Future[Scores]


class Scorer:
    """The queue, and the thread that empties it."""

    def __init__(
        self,
        ranker: Ranker,
        histories: Histories | None,
        metrics: Metrics,
        *,
        max_queue: int,
        max_batch: int,
        batch_seconds: float,
    ) -> None:
        """Start the thread.

        Args:
            ranker: From here on, no other thread may use it.
            histories: Of users, if there are any.
            metrics: What is counted.
            max_queue: Most requests that wait.
            max_batch: Most requests of a micro-batch.
            batch_seconds: How long a micro-batch that is not full waits for more.
        """
        self._ranker, self._histories, self._metrics = ranker, histories, metrics
        self._max_queue, self._max_batch, self._patience = max_queue, max_batch, batch_seconds
        self._jobs: collections.deque[_Job] = collections.deque()
        self._renewal: tuple[Trained, concurrent.futures.Future[None]] | None = None
        self._closed, self._changed, self._seconds = False, threading.Condition(), 0.0
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether requests are being answered."""
        return self._thread.is_alive()

    def submit(self, query: Query, deadline: float) -> concurrent.futures.Future[Scores]:
        """Let a query wait to be scored; one that is cancelled while it waits is not.

        Args:
            query: The query.
            deadline: Of `time.monotonic`, after which nobody wants the answer.

        Raises:
            QueueFullError: If too many wait.
            ClosedError: After `close`.
        """
        with self._changed:
            if self._closed:
                raise ClosedError("expected a server that runs, got one that stops")
            if len(self._jobs) >= self._max_queue:
                self._jobs = collections.deque(j for j in self._jobs if not j.answer.done())
            if len(self._jobs) >= self._max_queue:
                raise QueueFullError(max(1, math.ceil(len(self._jobs) * self._seconds)))
            job = _Job(query, deadline, time.monotonic(), concurrent.futures.Future())
            self._jobs.append(job)
            self._metrics.waiting.set(len(self._jobs))
            self._changed.notify()
        return job.answer

    def renew(self, trained: Trained) -> concurrent.futures.Future[None]:
        """Let the next micro-batch be scored by another checkpoint of the run.

        Args:
            trained: The checkpoint.

        Returns:
            Done when it is in use; has a ValueError if it is of another run.
        """
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._changed:
            self._renewal = trained, done
            self._changed.notify()
        return done

    def close(self, timeout: float | None = None) -> None:
        """Answer what waits, then end the thread; nothing more is taken.

        Args:
            timeout: Seconds to wait for that.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._renewal or self._closed)
                renewal, self._renewal = self._renewal, None
                if renewal is None and not self._jobs:
                    return
                batch = [] if renewal else self._next_batch()
            if renewal:
                self._take(*renewal)
            else:
                self._score(batch)

    def _next_batch(self) -> list[_Job]:
        """Take what waits from the queue, after some patience if it is not enough to be full."""

        def is_full() -> bool:
            return len(self._jobs) >= self._max_batch or self._closed

        self._changed.wait_for(is_full, self._patience)
        batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._max_batch))]
        self._metrics.waiting.set(len(self._jobs))
        return batch

    def _take(self, trained: Trained, done: concurrent.futures.Future[None]) -> None:
        try:
            self._ranker = self._ranker.renewed(trained)
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _score(self, batch: list[_Job]) -> None:
        """Score a micro-batch: one is read while the device computes the one before."""
        begun, scored = time.monotonic(), 0
        before: tuple[_Job, Callable[[], np.ndarray]] | None = None
        for job in batch:
            if not job.answer.set_running_or_notify_cancel():
                continue
            now = time.monotonic()
            self._metrics.queue_seconds.observe(now - job.entered)
            if now > job.deadline:
                job.answer.set_exception(DeadlineError("expected time to score it, got none"))
                continue
            scored += 1
            try:
                started = job, self._start(job.query)
            except Exception as error:  # of this request; the others are scored
                job.answer.set_exception(error)
                continue
            self._finish(before)
            before = started
        self._finish(before)
        if scored:
            self._metrics.batch_size.observe(scored)
            mean = (time.monotonic() - begun) / scored
            self._seconds += (mean - self._seconds) * (_FORGETTING if self._seconds else 1.0)

    def _start(self, query: Query) -> Callable[[], np.ndarray]:
        user = query.request
        if query.user is not None and self._histories is not None:
            events: Any = self._histories.of(query.user)
            self._metrics.known_users.labels(str(bool(events)).lower()).inc()
            user = dataclasses.replace(user, events=events)
        return self._ranker.start(user, query.candidates)

    def _finish(self, started: tuple[_Job, Callable[[], np.ndarray]] | None) -> None:
        if started is None:
            return
        job, wait = started
        try:
            values = wait()
        except Exception as error:
            job.answer.set_exception(error)
        else:
            self._metrics.candidates.inc(len(values))
            job.answer.set_result(Scores(self._ranker.step, values))
