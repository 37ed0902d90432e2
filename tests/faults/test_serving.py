"""A server answers every request that it takes, whatever clients, checkpoints and signals do."""

import concurrent.futures
import contextlib
import http.client
import json
import random
import time

import jax
import pytest

from kunlun_jax.serving.http.app import Limits
from tests.serving.http_server import Gate, Running, head, serving, until
from tests.serving.test_http import GOOD, MALFORMED

BODY = json.dumps(GOOD).encode()


@pytest.fixture
def gate(world_run):
    return Gate(world_run.dataset.schema)


def received(client):
    """Return the status of the answer, and whether the connection was closed after it."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, json.loads(response.read())["error"]["reason"], response.will_close


@pytest.mark.fault(
    "serving: a malformed body, 24 kinds",
    "400 where it is no JSON, else 422, with field and reason; the next request is answered",
)
def test_malformed_bodies(gate, observe_text):
    by_ranker = ("columns", "too short", "of both")  # which stands aside here
    kinds = [kind for kind in MALFORMED if not any(word in kind for word in by_ranker)]
    assert len(kinds) == 24
    with serving(gate) as server:
        for kind in kinds:
            status, _, answer = server.post(MALFORMED[kind][0])
            assert (status, answer["error"]["field"]) == MALFORMED[kind][1:3]
            assert server.post(GOOD)[0] == 200
    observe_text(f"{len(kinds)} of {len(kinds)} refused; `{answer['error']['reason']}`")


@pytest.mark.fault(
    "serving: a body that is too large, declared or in chunks, or announced by `Expect`",
    "413; what comes of it is dropped, not kept",
)
def test_oversized_bodies(gate, observe_text):
    limits = Limits(body_bytes=10_000, body_seconds=5.0, score_seconds=5.0)
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    chunked = head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
    with serving(gate, limits=limits) as server:
        for content in (
            head(10_001) + b" " * 10_001,
            head(64 * 65_536) + b" " * 64 * 65_536,
            chunked + 64 * chunk + b"0\r\n\r\n",
            head(10_001, "expect: 100-continue\r\n"),
        ):
            with server.connect(content) as client:
                status, reason, closes = received(client)
            assert (status, closes) == (413, True)
        assert server.post(GOOD)[0] == 200
        assert len(gate.asked) == 1
    observe_text(f"413; `{reason}`")


@pytest.mark.fault(
    "serving: clients that send a byte a second, or nothing",
    "408 for a body, a closed connection for a head; others are answered meanwhile",
)
def test_slow_clients(gate, observe_text):
    limits = Limits(body_seconds=0.5, score_seconds=5.0)
    with serving(gate, limits=limits) as server, contextlib.ExitStack() as stack:
        heads = [b"", b"POST", head(9)[:-2]]
        slow_heads = [stack.enter_context(server.connect(content)) for content in heads]
        slow_body = stack.enter_context(server.connect(head(len(BODY)) + BODY[:-1]))
        again = stack.enter_context(server.connect(head(2) + b"{}"))
        assert received(again)[0] == 422
        again.sendall(b"POST /sc")  # the next request of a connection, too
        assert server.post(GOOD)[0] == 200
        status, reason, closes = received(slow_body)
        assert (status, closes) == (408, True)
        for client in (*slow_heads, again):
            assert client.recv(100) == b""  # closed
    observe_text(f"408; `{reason}`")


@pytest.mark.fault(
    "serving: a client that goes away while its request waits",
    "the request is not scored, and its room in the queue is free",
)
def test_a_client_that_leaves(gate, observe_text):
    gate.open.clear()
    with serving(gate, max_queue=2, max_batch=1) as server:
        first = server.clients.submit(server.post, {**GOOD, "time": 1})
        until(lambda: gate.asked == [1])
        gone = [server.connect(head(len(BODY)) + BODY) for _ in range(2)]
        until(lambda: len(server.scorer._jobs) == 2)
        for client in gone:
            client.close()
        until(lambda: server.counted('requests_total{status="499"}') == 2)
        last = server.clients.submit(server.post, {**GOOD, "time": 2})
        until(lambda: server.scorer._jobs and server.scorer._jobs[-1].query.request.time == 2)
        gate.open.set()
        assert (first.result()[0], last.result()[0]) == (200, 200)
    assert gate.asked == [1, 2]
    observe_text("2 of 2 not scored; the one after them was")


@pytest.mark.fault(
    "serving: more requests than the queue holds",
    "429 with Retry-After at once; those that wait are answered",
)
def test_a_full_queue(gate, observe_text):
    gate.open.clear()
    with serving(gate, max_queue=3, max_batch=1) as server:
        taken = [server.clients.submit(server.post, GOOD)]
        until(lambda: len(gate.asked) == 1)
        taken += [server.clients.submit(server.post, GOOD) for _ in range(3)]
        until(lambda: len(server.scorer._jobs) == 3)
        refused = [server.clients.submit(server.post, GOOD).result() for _ in range(20)]
        assert {status for status, _, _ in refused} == {429}
        assert all(int(headers["retry-after"]) >= 1 for _, headers, _ in refused)
        assert server.get("/healthz")[0] == server.get("/readyz")[0] == 200
        gate.open.set()
        assert [future.result()[0] for future in taken] == [200] * 4
    observe_text(f"429; `{refused[0][2]['error']['reason']}`")


@pytest.mark.fault(
    "serving: a deadline that passes before a request is scored, or while it is",
    "504 at the deadline; what waits is not scored any more",
)
def test_a_deadline(gate, observe_text):
    gate.open.clear()
    limits = Limits(score_seconds=0.3)
    with serving(gate, limits=limits, max_batch=1) as server:
        late = [server.clients.submit(server.post, {**GOOD, "time": 1})]
        until(lambda: gate.asked == [1])
        late += [server.clients.submit(server.post, {**GOOD, "time": 2}) for _ in range(3)]
        answers = [future.result() for future in late]
        assert [status for status, _, _ in answers] == [504] * 4
        gate.open.set()
        until(lambda: server.post({**GOOD, "time": 3})[0] == 200)  # 504 on a machine this busy
    assert set(gate.asked) == {1, 3}
    observe_text(f"504; `{answers[0][2]['error']['reason']}`")


@pytest.mark.fault(
    "serving: an error of XLA, or of memory, while a request is scored",
    "500 for that one, and one line; the next is answered",
)
def test_an_error(gate, observe_text):
    with serving(gate) as server:
        for error in (MemoryError("out of memory"), jax.errors.JaxRuntimeError("INTERNAL:\nbad")):
            gate.error = error
            status, _, answer = server.post(GOOD)
            gate.error = None
            assert (status, answer["error"]["field"]) == (500, "server")
            assert server.post(GOOD)[0] == 200
        assert len(server.reports) == 2
        assert server.reports[-1].endswith("not scored: JaxRuntimeError: INTERNAL: bad")
    observe_text(f"500; `{server.reports[0]}`")


@pytest.mark.fault(
    "serving: more connections than are allowed",
    "503 for further requests, until some are closed",
)
def test_too_many_connections(gate, observe_text):
    with serving(gate, max_connections=5) as server:
        idle = [server.connect() for _ in range(5)]
        with server.connect(head(len(BODY)) + BODY) as client:
            assert client.recv(1000).startswith(b"HTTP/1.1 503 ")
        for client in idle:
            client.close()
        until(lambda: len(server.server.server_state.connections) == 0)
        assert server.post(GOOD)[0] == 200
    observe_text("503, and 200 after they were closed")


@pytest.mark.fault(
    "serving: a second SIGTERM",
    "ends at once, without the answers that are owed",
)
def test_a_second_signal(gate, observe_text):
    gate.open.clear()
    server = Running(gate)
    with server.connect(head(len(BODY)) + BODY) as client:
        until(lambda: gate.asked)
        server.stop()
        until(lambda: not server.service.is_ready)
        server.stop()
        server._thread.join(10)
        assert not server._thread.is_alive()
        gate.open.set()
        assert server.ended()
        del client
    observe_text("it ended with a request under way")


@pytest.mark.fault(
    "serving: good, malformed, oversized, cut off and abandoned requests at once, then SIGTERM",
    "every request that is sent whole by a client that stays has one answer, and is counted once",
)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_request_is_lost(gate, observe_text, seed):
    limits = Limits(body_bytes=5_000, body_seconds=1.0, score_seconds=0.2)
    server = Running(gate, limits=limits, max_queue=4, max_batch=2, drain_seconds=1.0)
    statuses, sent = [], []

    def client(number):
        draw = random.Random(100 * seed + number)
        for _ in range(25):
            kind = draw.choice(["good"] * 5 + ["bad", "large", "abandoned", "cut off"])
            if not server.service.is_ready:
                return
            if kind in ("abandoned", "cut off"):
                whole = head(len(BODY)) + BODY
                server.connect(whole if kind == "abandoned" else whole[:-5]).close()
            else:
                body = {"good": BODY, "bad": b"{", "large": b" " * 9_000}[kind]
                statuses.append((kind, server.post(body)[0]))
            sent.append(kind)
            if draw.random() < 0.1:  # the device stops for a while
                gate.open.clear()
                time.sleep(draw.random() / 4)
                gate.open.set()

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        clients = [pool.submit(client, number) for number in range(10)]
        until(lambda: len(sent) > 150)
        server.stop()
        for future in clients:
            future.result()  # an answer that does not come is an error here
    assert server.ended()
    allowed = {"good": {200, 429, 504}, "bad": {400}, "large": {413}}
    assert all(status in allowed[kind] for kind, status in statuses)
    assert ("good", 200) in statuses
    until(lambda: server.counted("requests_total") == len(sent))
    assert server.reports == []
    observe_text(f"{len(statuses)} of {len(statuses)} answered; all {len(sent)} counted")
