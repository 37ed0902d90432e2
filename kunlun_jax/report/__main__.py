"""Makes the report of a finished run again, or of two runs side by side.

    kunlun-jax report runs/base
    kunlun-jax report runs/a runs/b --out=a_b.html

`python -m kunlun_jax.report` is the same command. The page is one HTML file that opens offline:
report.html in the working directory, or report_NAME_OF_B.html in that of the first of two runs.
Every run of train.py ends with its report; the runs are only read here.
"""

import json
import pathlib
import sys

from absl import app, flags, logging

from kunlun_jax.command_line import one_line, parse_flags, run_program
from kunlun_jax.files import publish
from kunlun_jax.metrics.user_bootstrap import ComparisonError
from kunlun_jax.report.writing import REPORT_FILE, report_runs
from kunlun_jax.training.run import USER_ERRORS


def main(argv: list[str]) -> None:
    """Write the report of the working directories given as arguments."""
    values = flags.FLAGS
    if len(argv) not in (2, 3):
        raise app.UsageError("expected the working directory of one run, or of two")
    workdirs = [pathlib.Path(argument) for argument in argv[1:]]
    name = f"report_{workdirs[1].resolve().name}.html" if len(workdirs) > 1 else REPORT_FILE
    out = pathlib.Path(values.out or workdirs[0] / name)
    try:
        publish(out, report_runs(workdirs, dataset=values.dataset, num_resamples=values.resamples))
    except (*USER_ERRORS, ComparisonError) as error:
        sys.exit(one_line(error))
    print(json.dumps({"file": str(out)}))


if __name__ == "__main__":
    flags.DEFINE_string("out", None, "HTML file; by default in the first working directory.")
    flags.DEFINE_string("dataset", None, "Data set of the runs, if not where it was.")
    flags.DEFINE_integer(
        "resamples", None, "Resamples of the users; by default 200 of one run, 2,000 of two.", 1
    )
    logging.set_verbosity(logging.FATAL)  # checkpoints are talkative
    run_program(main, parse_flags)
