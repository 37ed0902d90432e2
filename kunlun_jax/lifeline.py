"""A connection from every process to process 0, by which each learns at once how others end.

JAX itself notices a lost process when its heartbeats stay away, and then aborts the others with a
stack trace. A broken connection says it in a moment and in one line; the heartbeats remain for what
breaks no connection.
"""

import os
import socket
import threading
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

# What is said over a connection: one of these, and the number of the process that it is about.
_DONE, _FAILED, _LOST = b"d", b"f", b"l"
_WORD_BYTES = 5
# Seconds in which a process can say itself what is wrong, after it heard that another one failed.
_GRACE = 2.0
_NAME_BYTES = 256


class Lifeline:
    """The connections of one process."""

    def __init__(self, coordinator: str | None, *, patience: int, timeout: int) -> None:
        """Connect all processes with process 0.

        Args:
            coordinator: "host:port" whose host is process 0's; None: it says its own name.
            patience: Seconds after which a silent connection counts as broken.
            timeout: Seconds to wait for all others.

        Raises:
            OSError: If they cannot be reached.
        """
        self._lock = threading.Lock()
        self._silent = False
        self._peers: dict[int, socket.socket] = {}
        number, count = jax.process_index(), jax.process_count()
        server = _listen(timeout) if number == 0 else None
        host = coordinator.rpartition(":")[0] if coordinator else socket.getfqdn()
        host, port = _of_first(host.strip("[]"), server.getsockname()[1] if server else 0)
        if server:
            with server:
                while len(self._peers) < count - 1:
                    connection, _ = server.accept()
                    self._peers[int.from_bytes(connection.recv(4), "big")] = connection
        else:
            connection = socket.create_connection((host, port), timeout=timeout)
            connection.sendall(number.to_bytes(4, "big"))
            self._peers[0] = connection
        for peer, connection in self._peers.items():
            connection.settimeout(None)
            _keep_alive(connection, patience)
            threading.Thread(target=self._watch, args=(peer, connection), daemon=True).start()

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
        self._tell(_FAILED if failed else _DONE, jax.process_index())
        if failed:
            self._let_others_go_first()

    def _tell(self, word: bytes, about: int) -> None:
        for connection in self._peers.values():
            try:
                connection.sendall(word + about.to_bytes(_WORD_BYTES - 1, "big"))
            except OSError:
                continue  # it has gone already

    def _let_others_go_first(self) -> None:
        # Process 0 carries JAX's coordinator, whose end would abort the others in mid-sentence.
        if jax.process_index() == 0 and jax.process_count() > 2:
            time.sleep(1.5 * _GRACE)

    def _watch(self, peer: int, connection: socket.socket) -> None:
        try:
            heard = connection.recv(_WORD_BYTES, socket.MSG_WAITALL)
        except OSError:
            heard = b""
        word, about = heard[:1] or _LOST, int.from_bytes(heard[1:], "big") if heard else peer
        if word == _DONE:
            return
        if jax.process_index() == 0:
            self._tell(word, about)
        if word == _FAILED:
            time.sleep(_GRACE)
        with self._lock:  # one thread speaks, and never lets go
            if self._silent:
                return
            what = "was lost" if word == _LOST else "ended with an error, which it says"
            os.write(2, f"error: process {about} of {jax.process_count()} {what}\n".encode())
            self._let_others_go_first()
            os._exit(1)


def _listen(timeout: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    server = socket.create_server(("", 0), family=family, dualstack_ipv6=dual, backlog=4096)
    server.settimeout(timeout)
    return server


def _of_first(host: str, port: int) -> tuple[str, int]:
    """Return process 0's host and port on every process."""
    name = host.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
    sent = {"name": np.frombuffer(name, np.uint8), "port": np.asarray(port, np.int32)}
    got = multihost_utils.broadcast_one_to_all(sent)
    return bytes(np.asarray(got["name"], np.uint8)).rstrip(b"\0").decode(), int(got["port"])


def _keep_alive(connection: socket.socket, patience: int) -> None:
    """Let the system find out within so many seconds that the other host is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = max(1, patience // 5)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), pause)
    if hasattr(socket, "TCP_KEEPCNT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
