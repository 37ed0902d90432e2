import dataclasses
import json

import numpy as np
import pytest

from kunlun_jax.data import Dataset, Events, Request
from kunlun_jax.data.reading.request_values import RequestError
from kunlun_jax.metrics.scores import probabilities
from kunlun_jax.serving.ranker import Ranker
from kunlun_jax.serving.trained import open_trained
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict
from kunlun_jax.why.maps import GDPA, POOLING, AttentionMap
from kunlun_jax.why.page import render
from kunlun_jax.why.request import example_of, explain, request_in
from tests.processes import run_python
from tests.report.reading import Page, problems

ROW = 7
HOSTILE = "<i>&\"click'</i>"


@pytest.fixture(scope="module")
def trained(finished_runs):
    return open_trained(finished_runs[0])


@pytest.fixture(scope="module")
def dataset(finished_runs):
    return Dataset.open(finished_runs[0].parent / "data")


@pytest.fixture(scope="module")
def explained(trained, dataset, finished_runs):
    batch = example_of(trained, dataset, "test", ROW)
    return explain(trained, batch, f"example {ROW}", finished_runs[0])


class TestExample:
    def test_its_score_is_that_of_the_evaluation(self, explained, finished_runs):
        with open_finished(finished_runs[0]) as (run, state):
            scores = predict(run, state, "test")
        assert np.allclose(explained.logits, scores.logits[ROW], atol=1e-5)

    def test_it_has_the_columns_of_the_data_set(self, explained, dataset):
        test = dataset.splits["test"]
        assert dict(explained.context)["item"] == f"#{test.sparse['item'][ROW, 0]}"
        value = dict(explained.context)["context_value"]
        assert float(value) == pytest.approx(test.dense[ROW, 0], rel=1e-3, abs=1e-6)
        log, end = dataset.logs["purchase"], int(test.ends["purchase"][ROW])
        at = log.offsets[test.users[ROW]] + end - 1
        assert len(explained.events["purchase"]) == min(end, 8)
        days = (test.request_times[ROW] - log.times[at]) / 86_400
        newest = explained.events["purchase"][-1]
        assert f"item #{log.ids['item'][at]}, " in newest
        assert days < 1 or newest.startswith(f"{days:.3g} days before")

    @pytest.mark.parametrize("row", [-1, 150])
    def test_one_that_is_not_there_is_refused(self, trained, dataset, row):
        with pytest.raises(RequestError, match=r"a row of the test split, 0 \.\. 149, got"):
            example_of(trained, dataset, "test", row)


class TestRequest:
    def test_its_score_is_the_rankers(self, world_run_of_events, tmp_path):
        trained = open_trained(world_run_of_events.workdir)
        stream = trained.schema.streams[0]
        ids = {f.name: ["1", "nobody"] for f in stream.ids}
        value = {
            "time": 1_700_000_000,
            "events": {stream.name: {"times": [1_699_000_000, 1_699_900_000], "ids": ids}},
        }
        (tmp_path / "request.json").write_text(json.dumps(value))
        batch = request_in(tmp_path / "request.json", trained)
        found = explain(trained, batch, "request.json", world_run_of_events.workdir)
        events = {stream.name: Events(**value["events"][stream.name])}
        expected = Ranker(trained, buckets=(1,)).predict([Request(value["time"], events=events)])
        assert probabilities(found.logits) == pytest.approx(expected[0], abs=1e-6)
        assert len(found.events[stream.name]) == 2
        assert "1.16 days before" in found.events[stream.name][1]
        assert problems(render(found)) == []

    @pytest.mark.parametrize(
        "text", ["no JSON", "[]", '{"times": 1}', '{"time": 1, "events": {"a": {"x": 1}}}']
    )
    def test_what_is_none_is_refused(self, trained, tmp_path, text):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(RequestError, match=r"a\.json: expected a request as JSON"):
            request_in(tmp_path / "a.json", trained)


class TestPage:
    def test_it_is_whole_and_shows_every_part(self, explained):
        text = render(explained)
        assert problems(text) == []
        page = Page(text)
        rows = [row for row in page.texts["tr"] if "log-odds" not in row]
        for part, added in zip(explained.parts, explained.effects[:, 0], strict=True):
            assert any(f"{added:+.4f}" in row for row in rows), part[:4]
        assert "This model has no such maps" in page.text

    def test_maps_and_names_are_shown(self, explained):
        weights = np.zeros((2, 3, 4), np.float32)
        weights[1, 2, 3], weights[0, 0, 0] = 0.75, -0.5
        maps = [AttentionMap(HOSTILE, kind, "purchase", weights) for kind in (GDPA, POOLING)]
        found = dataclasses.replace(
            explained, title=HOSTILE, run=HOSTILE, tasks=(HOSTILE,), maps=maps,
            context=[(HOSTILE, HOSTILE)], events={k: [HOSTILE] * 8 for k in explained.events},
        )  # fmt: skip
        text = render(found)
        assert problems(text) == []
        page = Page(text)
        assert page.text.count(HOSTILE) > 10
        assert page.text.count("The largest is 0.75, of head 2, ") == 2


def test_the_program(finished_runs, tmp_path):
    flags = [f"--run={finished_runs[0]}", f"--example={ROW}", f"--out={tmp_path / 'why.html'}"]
    outcome = run_python("-m", "kunlun_jax", "why", *flags, cwd=tmp_path)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout) == {"file": str(tmp_path / "why.html")}
    assert problems((tmp_path / "why.html").read_text()) == []
    both = run_python("-m", "kunlun_jax.why", *flags, "--request=a.json", cwd=tmp_path)
    assert (both.returncode, both.stdout) == (1, "")
    assert both.stderr == "error: expected --example or --request, got both\n"
