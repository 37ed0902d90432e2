"""Over HTTP come the very scores of the ranker, and a reason for whatever has none."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data import Dataset, DatasetError, Events, Request, SchemaError
from kunlun_jax.serving.batch_prediction import predict_tables
from kunlun_jax.serving.http.histories import read_histories
from kunlun_jax.serving.ranker import Ranker
from kunlun_jax.serving.trained import open_trained
from tests.serving.http_server import JSON, Gate, serving
from tests.serving.test_export import whole

START = 1_600_000_000  # of the tables
GOOD = {"time": START + 50, "candidates": {"item": [1, "x y"], "price": [1.5, None]}}
STREAMS = ("view", "order")


@pytest.fixture(scope="module")
def trained(world_run_of_events):
    return open_trained(world_run_of_events.workdir)


@pytest.fixture(scope="module")
def ranker(trained):
    return Ranker(trained, buckets=(1, 4))


@pytest.fixture(scope="module")
def histories(world_run_of_events, trained):
    files = [f"{name}={world_run_of_events.inputs.files[name][0]}" for name in STREAMS]
    return read_histories(trained, world_run_of_events.workdir, files)


@pytest.fixture(scope="module")
def server(ranker, histories):
    with serving(ranker, histories=histories) as running:
        yield running


class TestScores:
    def test_are_the_rankers_in_every_bit(self, server, ranker):
        """Of 40 requests at once, with events, lists, nulls, and ids that nobody knows."""
        rng = np.random.default_rng(0)
        bodies = [
            {
                "time": START + 60,
                "sparse": {"site": ["s1", None, "zz"][i % 3]},
                "events": {
                    "view": {
                        "times": rng.integers(START, START + 90, 5).tolist(),
                        "ids": {"item": [1, "2", 5, None, 2**70], "tag": ["a"] * 5},
                        "dense": {"amount": [2, None, float("nan"), 1e999, -1.5]},
                    }
                },
                "candidates": {
                    "item": rng.integers(1, 6, 1 + i % 6).tolist(),
                    "tags": [["a", "b"], "c", [], None, "a", ["rare"]][: 1 + i % 6],
                },
            }
            for i in range(40)
        ]
        answers = list(server.clients.map(server.post, bodies))
        for body, (status, _, answer) in zip(bodies, answers, strict=True):
            assert status == 200, answer
            user = Request(
                body["time"], {}, body["sparse"], {"view": Events(**body["events"]["view"])}
            )
            assert answer["scores"] == ranker.score(user, body["candidates"]).tolist()
            assert (answer["step"], tuple(answer["tasks"])) == (ranker.step, ranker.tasks)
        assert len({str(answer["scores"]) for _, _, answer in answers}) > 30

    def test_of_a_user_by_key_are_those_that_predict_gives(
        self, server, world_run_of_events, trained, tmp_path
    ):
        predict_tables(trained, world_run_of_events.inputs, tmp_path / "scores.parquet")
        scores = pq.read_table(tmp_path / "scores.parquet")
        rows = world_run_of_events.tables["impressions"][:25]
        expected = np.stack([scores[f"score_{task}"] for task in trained.schema.labels], axis=1)
        for row, wanted in zip(rows, expected[:25], strict=True):
            body = {
                "time": int(row["time"]),
                "user": row["who"],
                "sparse": {"site": row["site"] or None},
                "candidates": {
                    "item": [whole(row["item"])],
                    "tags": [row["tags"].split("|")],
                    "price": [None if row["price"] in ("", "nan") else float(row["price"])],
                },
            }
            status, _, answer = server.post(body)
            assert status == 200, answer
            np.testing.assert_allclose(answer["scores"], [wanted], rtol=0, atol=1e-6)

    def test_of_a_user_who_is_not_known_are_those_without_events(self, server):
        _, _, unknown = server.post({**GOOD, "user": "nobody"})
        assert unknown["scores"] == server.post(GOOD)[2]["scores"]
        assert 'kunlun_named_users_total{known="false"}' in server.metrics.text().decode()

    def test_of_numbered_users(self, finished_runs, tmp_path):
        """A run on another source: its data set has the histories."""
        run = finished_runs[0]
        trained, dataset = open_trained(run), Dataset.open(run.parent / "data")
        known = read_histories(trained, run, [str(dataset.directory)]).of(3)
        log = dataset.logs["purchase"]
        rows = slice(*log.offsets[3:5])
        np.testing.assert_array_equal(known["purchase"].times, log.times[rows])
        np.testing.assert_array_equal(known["purchase"].ids["item"], log.ids["item"][rows])
        with pytest.raises(DatasetError, match="--histories: expected the data set's directory"):
            read_histories(trained, run, ["a", "b"])

    def test_histories_of_tables_that_are_not_there(self, world_run_of_events, trained):
        with pytest.raises(SchemaError, match="order: expected files, got none"):
            read_histories(
                trained,
                world_run_of_events.workdir,
                [f"view={world_run_of_events.inputs.files['view'][0]}"],
            )


LONG = {"item": [1] * 51}
MALFORMED = {
    "nothing": (b"", 400, "body", "EOF"),
    "cut off": (b'{"time": 5, "cand', 400, "body", "EOF"),
    "no JSON": (b"time=5", 400, "body", "expected"),
    "text of other bytes": (b'{"time": "\xff"}', 400, "body", "unicode"),
    "a lone surrogate": (rb'{"time": "\ud800"}', 400, "body", "hex escape"),
    "too deep": (b"[" * 10_000, 400, "body", "recursion"),
    "two values": (b"{} {}", 400, "body", "trailing"),
    "a list": ([], 422, "body", "expected an object, got []"),
    "no time": ({"candidates": {"item": [1]}}, 422, "time", "expected a value, got none"),
    "no candidates": ({"time": 5}, 422, "candidates", "expected a value, got none"),
    "time as text": ({**GOOD, "time": "5"}, 422, "time", "a valid integer, got '5'"),
    "time in milliseconds": ({**GOOD, "time": 1.7e12}, 422, "time", "integer"),
    "time of a thousand digits": ({**GOOD, "time": 10**999}, 422, "time", "less than"),
    "a field too many": ({**GOOD, "usr": 1}, 422, "usr", "a name of the schema"),
    "a candidate feature too many": (
        {**GOOD, "candidates": {"itm": [1]}}, 422, "candidates.itm", "a name of the schema",
    ),
    "no columns": ({**GOOD, "candidates": {}}, 422, "candidates", "columns of one length >= 1"),
    "columns of two lengths": (
        {**GOOD, "candidates": {"item": [1], "tags": ["a", "b"]}}, 422, "candidates", "'tags': 2",
    ),
    "no candidate": ({**GOOD, "candidates": {"item": []}}, 422, "candidates.item", "at least 1"),
    "too many": ({**GOOD, "candidates": LONG}, 422, "candidates.item", "at most 50"),
    "an id of a fraction": (
        {**GOOD, "candidates": {"item": [1, 1.5]}}, 422, "candidates.item.1", "a valid integer or",
    ),
    "a number as text": ({**GOOD, "dense": {"price": "5"}}, 422, "dense.price", "number, got '5'"),
    "a number of both": ({**GOOD, "dense": {"price": 5}}, 422, "candidates", "got 'price'"),
    "events as a list": ({**GOOD, "events": []}, 422, "events", "an object"),
    "no times": ({**GOOD, "events": {"view": {}}}, 422, "events.view.times", "got none"),
    "times that are no seconds": (
        {**GOOD, "events": {"view": {"times": [1, None]}}}, 422, "events.view.times.1", "integer",
    ),
    "a column too short": (
        {**GOOD, "events": {"view": {"times": [1, 2], "ids": {"item": [1]}}}},
        422, "request 0: stream 'view': 'item'", "expected 2 values, one a time, got 1",
    ),
    "user and events": (
        {**GOOD, "user": "u1", "events": {}}, 422, "user", "either a user or events",
    ),
    "a user of a fraction": ({**GOOD, "user": 1.5}, 422, "user", "a valid integer or"),
}  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize("kind", MALFORMED)
    def test_a_malformed_body_has_a_field_and_a_reason(self, server, kind):
        body, expected, field, reason = MALFORMED[kind]
        status, _, answer = server.post(body)
        assert (status, answer["error"]["field"]) == (expected, field), answer
        assert reason in answer["error"]["reason"]
        assert len(answer["error"]["reason"]) < 300
        assert server.post(GOOD)[0] == 200
        assert server.reports == []

    @pytest.mark.parametrize("name", ["content-type", "content-encoding"])
    def test_another_type_of_body(self, server, name):
        status, _, answer = server.post(GOOD, {**JSON, name: "text/plain"})
        assert (status, answer["error"]["field"]) == (415, "content-type")

    @pytest.mark.parametrize(("path", "status"), [("/score", 405), ("/scores", 404)])
    def test_another_route(self, server, path, status):
        found, _, answer = server.get(path)
        assert (found, answer["error"]["field"]) == (status, "path")

    def test_a_user_without_histories(self, ranker):
        with serving(ranker) as running:
            status, _, answer = running.post({**GOOD, "user": "u1"})
            assert (status, answer["error"]["field"]) == (422, "user")
            assert "expected events: this server has no histories" in answer["error"]["reason"]


def test_a_micro_batch_waits_until_it_is_full(ranker):
    with serving(Gate(ranker.schema), max_batch=3, batch_seconds=20.0) as running:
        answers = [running.clients.submit(running.post, GOOD) for _ in range(3)]
        assert [future.result(10)[0] for future in answers] == [200] * 3
        assert running.counted("batch_size_sum") == 3
        assert running.counted("batch_size_count") == 1


def test_after_its_thread_has_ended_a_server_says_so(ranker):
    with serving(Gate(ranker.schema)) as running:
        assert [running.get(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        running.scorer.close(10.0)
        status, headers, answer = running.post(GOOD)
        assert (status, headers["connection"]) == (503, "close")
        assert answer["error"]["reason"] == "expected a server that runs, got one that stops"
        assert [running.get(path)[0] for path in ("/healthz", "/readyz")] == [503, 503]


def test_the_schema_is_what_bodies_are(server):
    status, _, schema = server.get("/schema")
    assert status == 200
    assert set(schema["properties"]) == {
        "time", "user", "dense", "sparse", "events", "candidates"
    }  # fmt: skip
    names = set(schema["$defs"]["Candidates"]["properties"])
    assert {name for name in names if "/" not in name} == {"item", "tags", "site", "price"}
    assert {name.partition("/")[0] for name in names if "/" in name} == {
        "count", "age", "popularity"
    }  # fmt: skip
