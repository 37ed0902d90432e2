"""A server of its own process, killed, or stopped while clients ask."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.documents import ROOT
from tests.serving.http_server import JSON, head, until


@contextlib.contextmanager
def server_process(run, compilation_cache, port=0):
    """Yield a server in a process of its own, and its address; kills what is left of it."""
    options = [f"--run={run}", f"--port={port}", "--drain=4", "--reload=0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "kunlun_jax.serve", *options],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(compilation_cache)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = server.stdout.readline()
        assert line, server.stderr.read()
        host, port = json.loads(line)["url"].removeprefix("http://").split(":")
        yield server, (host, int(port))
    finally:
        server.kill()
        server.communicate()


def asked(address, path, content=None):
    """Return the status and the body of an answer."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST" if content else "GET", path, content, JSON)
        response = connection.getresponse()
        return response.status, response.read()


SMALL = json.dumps({"time": 10**9, "candidates": {"item": [1, 2, 3]}}).encode()


@pytest.mark.fault(
    "serving: kill -9 of a client in the middle of a body, then SIGTERM of the server under load",
    "readiness off, every request answered, exit code 0; a port in use is refused in one line",
)
def test_kills(finished_runs, compilation_cache, observe_text):
    with server_process(finished_runs[0], compilation_cache) as (server, address):
        answered = _killed_under_load(server, address, finished_runs[0])
    observe_text(f"exit 0; all of more than {answered // 50 * 50} requests answered")


def _killed_under_load(server, address, run):
    half = "import socket, sys, time\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
    half += f"\ns.sendall({head(99) + b'{'!r})\nprint('sent', flush=True)\ntime.sleep(99)"
    client = subprocess.Popen(
        [sys.executable, "-c", half, str(address[1])], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout.readline() == "sent\n"
    client.kill()
    client.communicate()
    second = subprocess.run(
        [sys.executable, "-m", "kunlun_jax.serve", f"--run={run}",
         f"--port={address[1]}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert second.stderr == (
        f"error: --host=127.0.0.1 --port={address[1]}: Address already in use\n"
    )
    statuses, enough = [], threading.Event()

    def keep_asking():
        while not enough.is_set():
            statuses.append(asked(address, "/score", SMALL)[0])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(keep_asking) for _ in range(8)]
        until(lambda: len(statuses) > 50)
        server.send_signal(signal.SIGTERM)
        until(lambda: asked(address, "/readyz")[0] == 503)
        assert asked(address, "/healthz")[0] == 200
        enough.set()
        for future in clients:
            future.result()
    assert set(statuses) == {200}
    _, errors = server.communicate(timeout=60)
    assert (server.returncode, errors) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        asked(address, "/healthz")
    return len(statuses)


@pytest.mark.fault(
    "serving: kill -9 of the server while it scores",
    "clients see a closed connection at once; the run is as it was, and a server on the same port "
    "gives the same scores",
)
def test_killed_server(finished_runs, compilation_cache, observe_text):
    run = finished_runs[0]
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}
    ends, answers = [], []

    def keep_asking(address):
        try:
            while True:
                answers.append(asked(address, "/score", SMALL))
        except (OSError, http.client.HTTPException) as error:
            ends.append(type(error).__name__)

    with (
        server_process(run, compilation_cache) as (server, address),
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        clients = [pool.submit(keep_asking, address) for _ in range(8)]
        until(lambda: len(answers) > 20)
        server.kill()
        for client in clients:
            client.result(timeout=20)
    assert len(ends) == 8
    assert {status for status, _ in answers} == {200}
    assert {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))} == before
    with server_process(run, compilation_cache, address[1]) as (_, again):
        assert asked(again, "/score", SMALL) == answers[0]
    observe_text("8 of 8 clients told; the next server scores as the one before")
