import dataclasses
import json
import math

import pytest

from kunlun_jax.metrics.user_bootstrap import ComparisonError
from kunlun_jax.report.facts import gather
from kunlun_jax.report.page import render
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict
from kunlun_jax.training.workdir import WorkdirError
from kunlun_jax.why.importance import importance
from kunlun_jax.why.permutations import inputs_of
from tests.processes import run_python
from tests.report.reading import Page, problems
from tests.training.runs import records


@pytest.fixture(scope="module")
def found(finished_runs):
    return importance(finished_runs[0], max_examples=0, num_resamples=50)


class TestImportance:
    def test_the_intact_model_is_that_of_the_final_report(self, found, finished_runs):
        *_, last = records(finished_runs[0])
        metric = "normalized_entropy"
        assert found["intact"][metric] == pytest.approx(last[f"test/{metric}"], abs=1e-6)
        assert found["step"] == last["best/step"]

    def test_rows_are_sorted_and_every_input_has_one(self, found, finished_runs):
        with open_finished(finished_runs[0]) as (run, _):
            inputs = inputs_of(run.data.schema, run.config.model)
        assert {row["title"] for row in found["inputs"]} == {one.title for one in inputs}
        losses = [row["difference"]["normalized_entropy"]["value"] for row in found["inputs"]]
        assert losses == sorted(losses, reverse=True)
        assert json.loads(json.dumps(found)) == found

    def test_a_number_is_that_of_a_model_that_sees_the_permuted_batches(self, found, finished_runs):
        with open_finished(finished_runs[0]) as (run, state):
            inputs = inputs_of(run.data.schema, run.config.model)
            number, one = next((i, x) for i, x in enumerate(inputs) if x.title == "item")

            def change(batch, index):
                return one.permute(batch, (0, number + 1, index))

            scores = predict(run, state, "test", perturb=change)
            rate = run.data.label_rates[0]
        losses = scores.log_losses()
        entropy = binary_entropy(rate)
        (row,) = (row for row in found["inputs"] if row["title"] == "item")
        expected = losses.mean() / entropy - found["intact"]["normalized_entropy"]
        assert row["difference"]["normalized_entropy"]["value"] == pytest.approx(expected)

    def test_an_unknown_task_is_refused(self, finished_runs):
        with pytest.raises(ComparisonError, match="task: expected one of"):
            importance(finished_runs[0], task="buy")


def binary_entropy(rate):
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def test_the_report_shows_it(found, finished_runs, tmp_path):
    with open_finished(finished_runs[0]) as (run, state):
        facts = gather(run, predict(run, state, "test"))
    text = render(dataclasses.replace(facts, importance=found), num_resamples=5)
    assert problems(text) == []
    page = Page(text)
    assert "Importance" in page.texts["h2"]
    assert {row["title"] for row in found["inputs"]} <= set(page.texts["th"])
    assert "another checkpoint" not in page.text
    other = dataclasses.replace(facts, importance={**found, "step": 3})
    assert "another checkpoint" in render(other, num_resamples=5)


def test_the_program_writes_what_the_report_reads(finished_runs, tmp_path):
    out = tmp_path / "why.json"
    arguments = [f"--run={finished_runs[0]}", "--max_examples=50", "--resamples=5", f"--out={out}"]
    outcome = run_python("-m", "kunlun_jax.why", *arguments, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    written = json.loads(out.read_text())
    assert written["intact"]["num_examples"] == 50
    assert all(row["title"] in outcome.stdout for row in written["inputs"])


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"step": 1}'])
def test_a_damaged_file_is_named(finished_runs, text):
    file = finished_runs[1] / "why.json"
    file.write_text(text)
    try:
        with (
            open_finished(finished_runs[1]) as (run, state),
            pytest.raises(WorkdirError, match=r"why\.json: (not JSON|expected a mapping)"),
        ):
            gather(run, predict(run, state, "test"))
    finally:
        file.unlink()
