"""Carries out a study, or goes on with it, and reports what it finds.

    python -m kunlun_jax.scaling --study=configs/scaling/complete_journey.py
    kunlun-jax study --study=complete_journey    # the same, installed, from anywhere

Every finished run leaves a record, and a run with a record is not repeated: with the records in
--records, another machine goes on. Values are overridden as in
--study.experiment.data.directory=...; --max-minutes stops in time.
"""

import math
import pathlib
import re
import sys
import time

from absl import flags
from ml_collections import config_flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before anything large is allocated

from kunlun_jax.command_line import STUDIES, define_config, one_line, parse_flags, run_program  # noqa: E402
from kunlun_jax.metrics.user_bootstrap import ComparisonError  # noqa: E402
from kunlun_jax.scaling.report import write_report  # noqa: E402
from kunlun_jax.scaling.runs import RECORDS, carry_out  # noqa: E402
from kunlun_jax.scaling.study import study_config  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS  # noqa: E402

STUDY = define_config("study", "Study: a file, or the name of a ready one: smoke.", STUDIES)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the study; by default runs/scaling/<name of the study file>."
)
RECORDS_DIRECTORY = flags.DEFINE_string(
    "records", None, "Directory of the records of its runs; by default `records` in the workdir."
)
DATASET = flags.DEFINE_string("dataset", None, "Data set of its runs, if not where it was.")
ONLY = flags.DEFINE_string("only", "", "Regular expression: carry out only runs that match it.")
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
    records = pathlib.Path(RECORDS_DIRECTORY.value or workdir / RECORDS)
    command = f"python -m kunlun_jax.scaling --study={file}"
    try:
        values = STUDY.value.to_dict()
        if DATASET.value:
            values["experiment"]["data"]["directory"] = DATASET.value
        study = study_config(values)
        done = carry_out(
            study, workdir, records, command=command, deadline=deadline, only=ONLY.value
        )
        print(write_report(study, workdir, records, command=command))
        if not done:
            print("the study is not complete yet; the same command continues", flush=True)
    except (*USER_ERRORS, ComparisonError, re.error) as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    run_program(main, lambda argv: parse_flags(argv, STUDY), quiet=True)
