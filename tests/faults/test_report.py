"""A report that cannot be made: the run has ended well all the same."""

import shutil

import pytest

from kunlun_jax.report import writing
from tests.report.reading import problems
from tests.training.runs import records


@pytest.fixture
def finished(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    return tmp_path / "run"


@pytest.mark.fault(
    "an error while the report of a finished run is made",
    "a warning of one line; the run ends with 0 and its numbers stay; the same command makes it",
)
def test_the_report_fails(runs, finished, observe, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("a bug\nof the report")

    numbers = records(finished)
    with monkeypatch.context() as patch:
        patch.setattr(writing, "render", fail)
        outcome = runs.here(finished)
    assert outcome.code == 0
    warned = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1
    assert "no report: ValueError: a bug of the report (test_report.py:" in warned[0]
    assert records(finished) == numbers
    assert not (finished / "report.html").exists()
    observe(outcome, note=warned[0].partition(" (")[0])
    assert runs.here(finished).out.endswith(f"report: {finished / 'report.html'}\n")
    assert problems((finished / "report.html").read_text()) == []


@pytest.mark.fault(
    "no place for the report, where a folder has its name", "likewise; nothing is removed"
)
def test_the_report_cannot_be_written(runs, finished, observe):
    (finished / "report.html").mkdir()
    outcome = runs.here(finished)
    assert outcome.code == 0
    warned = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1 and "no report: IsADirectoryError" in warned[0]
    observe(outcome, note=warned[0].partition(": '")[0])
