"""Carries out a scaling study, or goes on with it, and reports what it finds.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey.py

Values are overridden as in --study.experiment.data.directory=...; --max-minutes stops in time.
"""

import json
import math
import pathlib
import sys
import time

from absl import app, flags, logging
from ml_collections import config_flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before anything large is allocated

import jax  # noqa: E402

from kunlun_jax.command_line import one_line, parse_flags  # noqa: E402
from kunlun_jax.scaling.analysis import Findings, analyze  # noqa: E402
from kunlun_jax.scaling.page import render  # noqa: E402
from kunlun_jax.scaling.study import StudyConfig, carry_out, collect, study_config  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS  # noqa: E402

STUDY = config_flags.DEFINE_config_file("study", None, "Study, such as configs/scaling/smoke.py.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the study; by default runs/scaling/<name of the study file>."
)
MAX_MINUTES = flags.DEFINE_float(
    "max-minutes", None, "Save and stop after this many; the same command continues.", lower_bound=0
)


def main(argv: list[str]) -> None:
    """Carry out what is left of the study, and report it once it is complete."""
    del argv
    minutes = math.inf if MAX_MINUTES.value is None else MAX_MINUTES.value
    deadline = time.monotonic() + 60 * minutes
    file = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["study"]))
    workdir = pathlib.Path(WORKDIR.value or pathlib.Path("runs/scaling") / file.stem)
    try:
        study = study_config(STUDY.value.to_dict())
        if carry_out(study, workdir, deadline=deadline):
            report(study, workdir, command=f"python -m kunlun_jax.scaling --study={file}")
        else:
            print("the study is not complete yet; the same command continues", flush=True)
    except USER_ERRORS as error:
        sys.exit(one_line(error))


def report(study: StudyConfig, workdir: pathlib.Path, *, command: str) -> None:
    """Analyze a complete study; write study.json, study.png and study.md, and print the page.

    Args:
        study: The study.
        workdir: Its directory.
        command: The command that the page names.
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
    (workdir / "study.json").write_text(json.dumps(content, indent=1) + "\n")
    page = render(study, findings, command=command, plot="study.png", device=device)
    (workdir / "study.md").write_text(page)
    print(page)
    _draw(findings, study, workdir)


def _draw(findings: Findings, study: StudyConfig, workdir: pathlib.Path) -> None:
    try:
        from kunlun_jax.scaling.plot import draw  # an extra
    except ImportError:
        print("no picture: it needs matplotlib (the extra 'plot')", file=sys.stderr)
        return
    source = study.experiment["data"]["source"].replace("_", " ")
    draw(findings, f"{source}, {len(study.seeds)} seeds", workdir / "study.png")


if __name__ == "__main__":
    # Checkpoints are talkative; what goes wrong with them is raised, and said in one line.
    logging.set_verbosity(logging.FATAL)
    app.run(main, flags_parser=lambda argv: parse_flags(argv, STUDY))
