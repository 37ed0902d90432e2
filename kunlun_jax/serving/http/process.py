"""The process: sockets, signals, slow clients, and the order in which a server ends."""

import asyncio
import socket
import time
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kunlun_jax.serving.http.app import Limits, Service

_IDLE_SECONDS = 75  # of a connection between two requests
_MARGIN_SECONDS = 5.0


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that has an address, and on which nobody listens yet.

    Args:
        host: Name or address of an interface.
        port: TCP port; 0 takes a free one.

    Raises:
        OSError: If it is in use, or there is no such interface.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise OSError(f"--host={host} --port={port}: {error.strerror}") from error
    return bound


class Server(uvicorn.Server):
    """Answers requests until SIGTERM or SIGINT, and then those that are under way.

    Readiness is turned off before it stops to listen; a second signal ends it at once.
    """

    def __init__(
        self, service: Service, limits: Limits, *, drain_seconds: float, max_connections: int
    ) -> None:
        """Configure it.

        Args:
            service: Answers requests.
            limits: What a request may take.
            drain_seconds: How long requests are still taken after the signal.
            max_connections: Most connections at a time; further requests get 503.
        """
        longest = limits.body_seconds + limits.score_seconds + _MARGIN_SECONDS
        super().__init__(
            uvicorn.Config(
                service.app,
                http=type("Protocol", (_Protocol,), {"head_seconds": limits.body_seconds}),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_level="critical",
                access_log=False,
                server_header=False,
                limit_concurrency=max_connections,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=round(longest),
            )
        )
        self._service, self._drain_seconds, self._stops = service, drain_seconds, float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, on a signal; the second time, at once."""
        del sig, frame
        if self._service.is_stopping:
            self.force_exit = self.should_exit = True
        else:
            self._service.is_stopping = True
            self._stops = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to stop to listen."""
        return await super().on_tick(counter) or time.monotonic() >= self._stops


class _Protocol(H11Protocol):
    """Closes a connection whose head of a request does not come to its end."""

    head_seconds: float
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        """Start the clock with the first byte of a head, and stop it with its last."""
        reads_head = self.cycle is None or self.cycle.response_complete
        if reads_head and self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self.transport.close)
        elif not reads_head and self._timer is not None:
            self._timer.cancel()
            self._timer = None
