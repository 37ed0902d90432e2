"""The files of a complete study: study.json, study.png and study.md in its directory."""

import json
import pathlib

import jax

from kunlun_jax.scaling.analysis import Findings, analyze
from kunlun_jax.scaling.page import render
from kunlun_jax.scaling.study import StudyConfig, collect, plan

JSON, PLOT, PAGE = "study.json", "study.png", "study.md"


def write_report(study: StudyConfig, workdir: pathlib.Path, *, command: str) -> str:
    """Analyze a complete study, write its files, and return the page.

    Args:
        study: The study.
        workdir: Its directory.
        command: The command that the page names.

    Raises:
        WorkdirError: If a run is not what the study expects.
        OSError: If a file cannot be written.
    """
    options = study.bootstrap
    findings = analyze(
        collect(study, workdir),
        subject=study.subject,
        num_draws=options.num_draws,
        confidence=options.confidence,
        seed=options.seed,
    )
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    content = {"command": command, "device": device, **findings.to_json()}
    (workdir / JSON).write_text(json.dumps(content, indent=1) + "\n")
    has_plot = _draw(findings, study, workdir / PLOT)
    page = render(study, findings, command=command, plot=PLOT if has_plot else None, device=device)
    (workdir / PAGE).write_text(page)
    return page


def _draw(findings: Findings, study: StudyConfig, path: pathlib.Path) -> bool:
    """Draw the picture, where matplotlib is installed; returns whether it is."""
    try:
        from kunlun_jax.scaling.plot import draw  # matplotlib comes with the extra "plot"
    except ImportError:
        return False
    runs = plan(study)
    source = study.experiment["data"]["source"].replace("_", " ").title()
    share = runs[0].config.data.num_epochs
    title = f"{source}, {share:.0%} of an epoch, {len(study.seeds)} seed(s)"
    draw(findings, title, path)
    return True
