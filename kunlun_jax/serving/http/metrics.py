"""What a server counts, as Prometheus reads it."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The counters of one server.

    Attributes:
        requests: Requests to be scored, by status of the answer; 499 stands for a client that left.
        seconds: Seconds from the head of a request to its answer.
        queue_seconds: Seconds in the queue.
        waiting: Requests in the queue.
        batch_size: Requests of a micro-batch.
        candidates: Candidates that were scored.
        known_users: Requests that name a user, by whether there is a history.
        reloads: Checkpoints that were taken or refused, by outcome.
        step: Step of the checkpoint in use.
        ready: Whether the server takes requests.
    """

    def __init__(self) -> None:
        """Begin at 0, in a registry of its own."""
        self._registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"kunlun_{name}", meaning, labels, registry=self._registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"kunlun_{name}", meaning, buckets=buckets, registry=self._registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"kunlun_{name}", meaning, registry=self._registry)

        ProcessCollector(registry=self._registry)
        self.requests = counter("requests", "Requests by status of the answer.", "status")
        self.seconds = histogram("request_seconds", "From its head to its answer.", _SECONDS)
        self.queue_seconds = histogram("queue_seconds", "In the queue.", _SECONDS)
        self.waiting = gauge("queue_length", "Requests in the queue.")
        self.batch_size = histogram(
            "batch_size", "Requests of a micro-batch.", (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
        )
        self.candidates = counter("candidates", "Candidates that were scored.")
        self.known_users = counter("named_users", "Requests that name a user.", "known")
        self.reloads = counter("reloads", "Newer checkpoints.", "outcome")
        self.step = gauge("checkpoint_step", "Step of the checkpoint in use.")
        self.ready = gauge("ready", "Whether requests are taken.")

    def text(self) -> bytes:
        """Return all of it, as Prometheus reads it."""
        return generate_latest(self._registry)
