"""Writes the report of a run, at its end or later."""

import pathlib
import sys
import traceback
from collections.abc import Sequence

from kunlun_jax.files import publish
from kunlun_jax.hosts.processes import is_first, together
from kunlun_jax.metrics import user_bootstrap
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.report.facts import SPLIT, gather, keep_environment
from kunlun_jax.report.page import NUM_RESAMPLES, render
from kunlun_jax.report.side_by_side import render_both
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict
from kunlun_jax.training.run import Run

REPORT_FILE = "report.html"


def end_with_report(run: Run, scores: Scores) -> None:
    """Write the report of a run that has just been finished; it never fails the run.

    What goes wrong is one line on standard error. Of several processes, the first one writes.

    Args:
        run: The run, its final record written.
        scores: Predictions of the test split by its best checkpoint.
    """
    with together():  # the others wait
        if is_first():
            _write(run, scores, run.workdir / REPORT_FILE)


def _write(run: Run, scores: Scores, path: pathlib.Path) -> None:
    try:
        keep_environment(run.workdir)
        publish(path, render(gather(run, scores)))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{pathlib.Path(last.filename).name}:{last.lineno}"
        what = " ".join(f"{type(error).__name__}: {error} ({where})".split())
        print(f"warning: {path}: no report: {what}", file=sys.stderr, flush=True)
    else:
        print(f"report: {path}", flush=True)


def report_runs(
    workdirs: Sequence[pathlib.Path],
    *,
    dataset: str | None = None,
    num_resamples: int | None = None,
) -> str:
    """Return the report of one finished run, made again, or of two side by side.

    Args:
        workdirs: One or two working directories; nothing is written there.
        dataset: Where the runs' data set lies, if not where it was.
        num_resamples: Resamples of the users, behind every interval; None: 200 of one run, 2,000
            of two.

    Raises:
        CheckpointError: As `open_finished`, as the other errors.
        ComparisonError: If two runs were not measured on the same examples.
        WorkdirError: As `open_finished`, or if a run has no final record.
    """
    gathered = []
    for workdir in workdirs:
        with open_finished(workdir, dataset=dataset) as (run, state):
            gathered.append(gather(run, predict(run, state, SPLIT)))
    if len(gathered) == 1:
        return render(*gathered, num_resamples=num_resamples or NUM_RESAMPLES)
    return render_both(*gathered, num_resamples=num_resamples or user_bootstrap.NUM_RESAMPLES)
