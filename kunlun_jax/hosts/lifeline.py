"""A connection from every process to process 0: they meet, and learn at once how others end.

The promise is one line and exit code 1 at once, in every process, however another one ends. JAX's
runtime does not give it (tried with jax 0.10 and two processes, heartbeat timeout 10 s):

- One is killed: the other is told after 20 s, twice the timeout, and is aborted (exit code 134) by
  C++ code with a stack trace; no Python code runs any more that could say it in a line.
- One raises an error: its heartbeats go on while it waits for the others at exit, and they wait for
  it in a collective. After 300 s that barrier times out, and all are aborted in the same way.

There is no callback to hook a message into, and a shorter heartbeat timeout ends healthy processes
that are stopped for a moment. A broken TCP connection says all of it within a second. The
heartbeats remain for what breaks no connection.

All meet where JAX's coordinator is to listen, before it does, so no second port is needed.
"""

import contextlib
import os
import socket
import threading
import time

# What is said over a connection: one of these, and the id of the process that it is about.
_READY, _DONE, _FAILED, _LOST = b"r", b"d", b"f", b"l"
_WORD_BYTES = 5
# Seconds in which a process can say itself what is wrong, after it heard that another one failed.
_GRACE = 2.0
_PAUSE = 0.2  # seconds between two attempts to connect


class Lifeline:
    """The connections of one process."""

    def __init__(
        self, address: str, process: int, count: int, *, timeout: int, silence: int
    ) -> None:
        """Wait until all processes are connected with process 0.

        Args:
            address: Host and port of process 0.
            process: Which process this is.
            count: How many there are.
            timeout: Seconds to wait for the others.
            silence: Seconds after which a connection to a host that does not answer is broken.

        Raises:
            OSError: If not all come in time.
            ValueError: If the address is none.
        """
        self._process, self._count = process, count
        self._lock = threading.Lock()
        self._silent = False
        self._peers: dict[int, socket.socket] = {}
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"expected host:port, got {address!r}")
        deadline = time.monotonic() + timeout
        if process == 0:
            self._receive_all(int(port), deadline)
        else:
            self._peers[0] = self._join(host.strip("[]"), int(port), deadline)
        for peer, connection in self._peers.items():
            connection.settimeout(None)
            _keep_alive(connection, silence)
            threading.Thread(target=self._watch, args=(peer, connection), daemon=True).start()

    def _receive_all(self, port: int, deadline: float) -> None:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        with socket.create_server(
            ("", port), family=family, backlog=self._count, dualstack_ipv6=dual
        ) as server:
            while len(self._peers) < self._count - 1:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._close()
                    missing = sorted({*range(1, self._count)} - {*self._peers})
                    raise TimeoutError(f"no sign of process {', '.join(map(str, missing))}")
                server.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    self._greet(server.accept()[0])
        self._tell(_READY, 0)

    def _greet(self, connection: socket.socket) -> None:
        """Keep a connection, unless it is a stranger's."""
        connection.settimeout(_GRACE)
        with contextlib.suppress(OSError):
            process, count = (_value(_receive(connection)) for _ in ("who", "of how many"))
            if count == self._count and 0 < process < count and process not in self._peers:
                self._peers[process] = connection
                return
        connection.close()

    def _join(self, host: str, port: int, deadline: float) -> socket.socket:
        while True:
            left = max(0.01, deadline - time.monotonic())
            try:
                connection = socket.create_connection((host, port), timeout=left)
                try:
                    connection.sendall(_word(_READY, self._process) + _word(_READY, self._count))
                    if _receive(connection)[:1] != _READY:
                        raise ConnectionError("it answers something else")
                    return connection
                except OSError:
                    connection.close()
                    raise
            except OSError as error:
                if time.monotonic() + _PAUSE > deadline:
                    raise OSError(f"process 0 is not ready there: {error}") from error
            time.sleep(_PAUSE)

    def fall_silent(self) -> None:
        """Leave it to the caller from now on to say why this process ends."""
        with self._lock:
            self._silent = True

    def leave(self, *, failed: bool) -> None:
        """Tell the others that this process ends, and how.

        Args:
            failed: Whether they have to end, too.
        """
        self.fall_silent()
        self._tell(_FAILED if failed else _DONE, self._process)
        if failed:
            self._let_others_go_first()
        self._close()

    def _close(self) -> None:
        for connection in self._peers.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that listens
            connection.close()

    def _tell(self, kind: bytes, about: int) -> None:
        for connection in self._peers.values():
            with contextlib.suppress(OSError):  # the peer has already gone
                connection.sendall(_word(kind, about))

    def _let_others_go_first(self) -> None:
        # Process 0 carries JAX's coordinator, whose end would abort the others in mid-sentence.
        if self._process == 0:
            time.sleep(1.5 * _GRACE)

    def _watch(self, peer: int, connection: socket.socket) -> None:
        try:
            heard = _receive(connection)
        except OSError:
            heard = _word(_LOST, peer)
        kind, about = heard[:1], _value(heard)
        with self._lock:
            if kind == _DONE or self._silent:
                return
        if self._process == 0:
            self._tell(kind, about)
        if kind == _FAILED:
            time.sleep(_GRACE)
        with self._lock:  # never released: only one thread may report
            if self._silent:
                return
            what = "was lost" if kind == _LOST else "ended with an error, which it says"
            # The line break first: a progress bar may stand on the current line.
            os.write(2, f"\nerror: process {about} of {self._count} {what}\n".encode())
            if self._count > 2:
                self._let_others_go_first()
            os._exit(1)


def _word(kind: bytes, about: int) -> bytes:
    return kind + about.to_bytes(_WORD_BYTES - 1, "big")


def _value(word: bytes) -> int:
    return int.from_bytes(word[1:], "big")


def _receive(connection: socket.socket) -> bytes:
    word = b""
    while len(word) < _WORD_BYTES:
        part = connection.recv(_WORD_BYTES - len(word))
        if not part:
            raise ConnectionError("the connection was closed")
        word += part
    return word


def _keep_alive(connection: socket.socket, silence: int) -> None:
    """Let the system find out within so many seconds that the other host is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = max(1, silence // 5)
    for option, value in {"TCP_KEEPIDLE": pause, "TCP_KEEPINTVL": pause, "TCP_KEEPCNT": 2}.items():
        if hasattr(socket, option):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
