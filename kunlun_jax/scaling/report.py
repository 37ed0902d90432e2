"""The files of a study: study.json, study.png and study.md in its directory."""

import json
import pathlib

from kunlun_jax.scaling.analysis import Findings, analyze
from kunlun_jax.scaling.page import render
from kunlun_jax.scaling.results import Results, collect
from kunlun_jax.scaling.study import StudyConfig

JSON, PLOT, PAGE = "study.json", "study.png", "study.md"


def write_report(
    study: StudyConfig, workdir: pathlib.Path, records: pathlib.Path, *, command: str
) -> str:
    """Analyze what there is of a study, write its files, and return the page.

    Args:
        study: The study.
        workdir: Where the files go.
        records: Where the records of its runs are.
        command: The command that the page names.

    Raises:
        WorkdirError: If a record is not what the study expects.
        OSError: If a file cannot be written.
    """
    results = collect(study, records)
    workdir.mkdir(parents=True, exist_ok=True)
    findings, has_plot = find_laws(results), False
    if findings:
        content = {"command": command, **findings.to_json()}
        (workdir / JSON).write_text(json.dumps(content, indent=1) + "\n")
        has_plot = draw_laws(results, findings, workdir / PLOT)
    page = render(results, findings, command=command, plot=PLOT if has_plot else None)
    (workdir / PAGE).write_text(page)
    return page


def find_laws(results: Results) -> Findings | None:
    """Return what the laws say, where enough runs are there."""
    study, measured = results.study, results.measurements()
    if measured is None:
        return None
    return analyze(measured, subject=study.subject, confidence=study.confidence)


def draw_laws(results: Results, findings: Findings, path: pathlib.Path) -> bool:
    """Draw the picture, where matplotlib is installed; returns whether it is.

    Args:
        results: What the study measured.
        findings: What its laws say.
        path: The file.
    """
    try:
        from kunlun_jax.scaling.plot import draw  # matplotlib comes with the extra "plot"
    except ImportError:
        return False
    num_seeds = len(findings.families[0].runs[0])
    share = results.study.experiment["data"]["num_epochs"]
    draw(findings, f"{results.study.title}, {share:.0%} of an epoch, {num_seeds} seed(s)", path)
    return True
