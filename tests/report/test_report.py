import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import ComparisonError
from kunlun_jax.report import writing
from kunlun_jax.report.facts import gather
from kunlun_jax.report.page import render
from kunlun_jax.report.side_by_side import render_both
from kunlun_jax.report.writing import end_with_report, report_runs
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict
from tests.processes import run_python
from tests.report.reading import Page, problems
from tests.training.runs import records

HOSTILE = "<i>&\"click'</i><script>alert(1)</script>"


@pytest.fixture(scope="module")
def both(finished_runs):
    found = []
    for workdir in finished_runs:
        with open_finished(workdir) as (run, state):
            found.append(gather(run, predict(run, state, "test")))
    return found


@pytest.fixture(scope="module")
def text(both):
    return render(both[0], num_resamples=20)


def hostile(value):
    """Return facts whose every text is as bad as a name can be."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, dict):
        return {f"{key}{HOSTILE}": hostile(x) for key, x in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(hostile, value))
    return type(value)(map(hostile, value)) if isinstance(value, list | tuple) else value


class TestPage:
    def test_it_is_whole_and_offline(self, text):
        assert problems(text) == []

    def test_it_has_the_numbers_of_the_final_report(self, text, finished_runs):
        *_, last = records(finished_runs[0])
        cells = Page(text).texts["td"]
        for split in ("val", "test"):
            for metric in ("normalized_entropy", "auc_roc", "log_loss", "ece", "calibration"):
                assert f"{last[f'{split}/{metric}']:.5f}" in cells

    def test_it_has_every_part(self, text):
        page = Page(text)
        assert page.texts["h2"] == [
            "Results", "While training", "Predictions", "Segments", "Model", "Time and padding",
            "Data", "Configuration", "Environment",
        ]  # fmt: skip
        told = page.texts["title"][1:]
        for start in ("Log loss over", "NE over", "AUC over", "Reliability", "Predictions", "MFU"):
            assert any(title.startswith(start) for title in told), start
        for words in (
            "Padding of training batches",
            "Dense modules",
            "Goodput and speed",
            "Differences to configs/base.py",
            "stream purchase: events before",
        ):
            assert any(caption.startswith(words) for caption in page.texts["caption"]), words

    def test_curves_begin_and_end_where_the_record_does(self, text, finished_runs):
        found = [r for r in records(finished_runs[0]) if "best/step" not in r]
        (title,) = (t for t in Page(text).texts["title"] if t.startswith("NE over"))
        for split, name in (("train", "training"), ("val", "validation")):
            values = [r[f"{split}/normalized_entropy"] for r in found
                      if f"{split}/normalized_entropy" in r]  # fmt: skip
            assert f"{name} from {values[0]:.4g} to {values[-1]:.4g}" in title

    def test_it_says_what_differs_from_base(self, text):
        rows = [cells for cells in Page(text).texts["tr"] if cells.startswith("model.name")]
        assert rows == ['model.name"din""kunlun"']

    def test_names_of_the_data_are_text(self, both):
        facts = both[0]
        bad = {
            field.name: hostile(getattr(facts, field.name))
            for field in dataclasses.fields(facts)
            if field.name not in ("records", "schema", "scores", "segmentations", "label_rates")
        } | {
            "settings": {"model.name": HOSTILE, HOSTILE: HOSTILE},
            "environment": {HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}},
            "findings": [HOSTILE],
            "schema": dataclasses.replace(
                facts.schema, name=f"a {HOSTILE}".replace("/", ""), labels=("<b>&\"'",)
            ),
            "segmentations": [
                dataclasses.replace(s, title=HOSTILE, names=tuple(HOSTILE for _ in s.names))
                for s in facts.segmentations
            ],
        }
        found = dataclasses.replace(facts, **bad)
        for text in (render(found, num_resamples=5), render_both(found, found, num_resamples=5)):
            assert problems(text) == []
            assert Page(text).text.count(HOSTILE) > 20

    def test_numbers_that_are_not_there_are_dashes(self, both):
        facts = both[0]
        broken = [{key: math.nan for key in r} | {"step": r["step"]} for r in facts.records]
        broken[-1]["best/step"] = 10.0
        logits = np.full_like(facts.scores.logits, math.nan)
        scores = dataclasses.replace(facts.scores, logits=logits)
        text = render(dataclasses.replace(facts, records=broken, scores=scores), num_resamples=5)
        assert problems(text) == []
        assert "expected finite logits" in text
        assert "nan" not in Page(text).text

    def test_a_single_user_has_a_report(self, both):
        scores = both[0].scores
        alone = dataclasses.replace(scores, user_ids=np.zeros_like(scores.user_ids))
        text = render(dataclasses.replace(both[0], scores=alone), num_resamples=5)
        assert problems(text) == []
        assert "expected at least 2 users" in text


class TestSideBySide:
    def test_it_is_whole_and_paired(self, both):
        text = render_both(*both, num_resamples=20)
        assert problems(text) == []
        page = Page(text)
        (cell,) = (c for c in page.texts["tr"] if c.startswith("AUC, click"))
        last = [records_of.final for records_of in both]
        gap = last[1]["test/auc_roc"] - last[0]["test/auc_roc"]
        assert f"AUC, click{gap:+.5f} [" in cell
        assert any(c.startswith("seed01") for c in page.texts["tr"])  # the one setting that differs

    def test_a_run_does_not_differ_from_itself(self, both):
        text = render_both(both[0], both[0], num_resamples=5)
        assert "+0.00000 [+0.00000, +0.00000]" in text
        assert "Differences: none." in text

    def test_other_data_and_other_examples_are_refused(self, both):
        a, b = both
        with pytest.raises(ComparisonError, match="expected two runs of one data set, got syn"):
            render_both(a, dataclasses.replace(b, identity="0"), num_resamples=5)
        fewer = Scores(*(x[1:] for x in dataclasses.astuple(b.scores)))
        with pytest.raises(ComparisonError, match="expected the same test examples in"):
            render_both(a, dataclasses.replace(b, scores=fewer), num_resamples=5)


class TestEndWithReport:
    @pytest.fixture
    def run(self, finished_runs):
        with open_finished(finished_runs[1]) as (run, state):
            yield run, predict(run, state, "test")

    def test_it_leaves_a_report_and_says_where(self, run, capsys):
        end_with_report(*run)
        path = run[0].workdir / "report.html"
        assert capsys.readouterr() == (f"report: {path}\n", "")
        assert problems(path.read_text()) == []
        kept = json.loads((run[0].workdir / "environment.json").read_text())
        assert kept["versions"]["jax"] == jax.__version__
        assert kept["versions"]["jax"] in Page(path.read_text()).texts["td"]
        assert path.read_text() == report_runs([run[0].workdir])

    @pytest.mark.parametrize(
        "error", [ValueError("a\nb"), MemoryError(), OSError(28, "No space left on device")]
    )
    def test_what_goes_wrong_is_one_line_and_no_error(self, run, capsys, monkeypatch, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(writing, "render", fail)
        end_with_report(*run)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith(f"warning: {run[0].workdir / 'report.html'}: no report: ")
        assert f"{type(error).__name__}: " in err and "(test_report.py:" in err


class TestProgram:
    def test_two_runs_from_anywhere(self, finished_runs, tmp_path):
        arguments = ["report", *finished_runs, f"--out={tmp_path / 'a_b.html'}", "--resamples=5"]
        outcome = run_python("-m", "kunlun_jax", *arguments, cwd=tmp_path)
        assert (outcome.returncode, outcome.stderr) == (0, "")
        assert json.loads(outcome.stdout) == {"file": str(tmp_path / "a_b.html")}
        assert problems((tmp_path / "a_b.html").read_text()) == []

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ((), "error: expected the working directory of one run, or of two"),
            (("nowhere",), "error: nowhere: expected the working directory of a run"),
        ],
    )
    def test_bad_input_is_one_line(self, tmp_path, arguments, line):
        outcome = run_python("-m", "kunlun_jax.report", *arguments, cwd=tmp_path)
        assert (outcome.returncode, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith(line) and outcome.stderr.count("\n") == 1
