"""A server in this process, on a free port, and clients of it."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
import threading
import time

import numpy as np

from kunlun_jax.serving.http.app import Limits, Service
from kunlun_jax.serving.http.bodies import Bodies
from kunlun_jax.serving.http.metrics import Metrics
from kunlun_jax.serving.http.process import Server, bind
from kunlun_jax.serving.http.scorer import Scorer
from kunlun_jax.serving.ranker import Ranker

JSON = {"content-type": "application/json"}


class Gate(Ranker):
    """Stands in a ranker's place: it scores when it is let, and notes what it was asked for."""

    tasks, step = ("click",), 7

    def __init__(self, schema):
        self.schema, self.open, self.asked = schema, threading.Event(), []
        self.open.set()
        self.error = None

    def start(self, user, candidates):
        self.asked.append(user.time)
        if self.error is not None:
            raise self.error
        self.open.wait()
        count = len(next(iter(candidates.values())))
        return lambda: np.full((count, 1), 0.5)


class Running:
    """A server that runs.

    Attributes:
        address: Host and port.
        metrics, scorer, service, server, reports: Its parts, and the lines that it printed.
    """

    def __init__(self, ranker, *, histories=None, limits=None, drain_seconds=0.0, **options):
        limits = limits or Limits(body_seconds=5.0, score_seconds=20.0)
        self.reports, self.metrics = [], Metrics()
        options = {"max_queue": 64, "max_batch": 8, "batch_seconds": 0.0, **options}
        connections = options.pop("max_connections", 100)
        self.scorer = Scorer(ranker, histories, self.metrics, **options)
        bodies = Bodies(ranker.schema, max_candidates=50, has_histories=histories is not None)
        self.service = Service(
            bodies, self.scorer, self.metrics,
            tasks=ranker.tasks, limits=limits, report=self.reports.append,
        )  # fmt: skip
        bound = bind("127.0.0.1", 0)
        self.address = bound.getsockname()
        self.server = Server(
            self.service, limits, drain_seconds=drain_seconds, max_connections=connections
        )
        self._thread = threading.Thread(target=self.server.run, args=([bound],), daemon=True)
        self._thread.start()
        until(lambda: self.server.started)

    def stop(self):
        self.server.handle_exit(signal.SIGTERM, None)

    def ended(self):
        self._thread.join(30)
        self.scorer.close(30.0)
        return not self._thread.is_alive() and not self.scorer.is_alive

    def counted(self, name):
        """Return a counter, summed over its labels."""
        lines = self.metrics.text().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"kunlun_{name}"))

    def post(self, body, headers=JSON, path="/score", method="POST"):
        """Return status, headers and JSON of the answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, content, dict(headers))
            response = connection.getresponse()
            return response.status, dict(response.headers), json.loads(response.read())

    def get(self, path):
        return self.post(b"", {}, path, "GET")

    def connect(self, content=b""):
        """Return a socket on which some bytes were sent."""
        client = socket.create_connection(self.address, timeout=30)
        client.sendall(content)
        return client


@contextlib.contextmanager
def serving(ranker, **options):
    """Give a server, and threads in which clients of it can wait."""
    running = Running(ranker, **options)
    try:
        with concurrent.futures.ThreadPoolExecutor(40) as running.clients:
            yield running
    finally:
        getattr(ranker, "open", threading.Event()).set()
        running.stop()
        assert running.ended()


def head(length, more=""):
    """Return the head of a request to score."""
    return (
        f"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\n{more}\r\n"
    ).encode()


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)
