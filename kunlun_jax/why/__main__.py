"""Tells why a run's model scores as it does.

    kunlun-jax why --run=runs/base

`python -m kunlun_jax.why` is the same command. It prints the importance of every feature, stream
and event attribute: what NE and AUC of the test split lose when the input is permuted, with
intervals by users. It is written to why.json in the working directory, from where `kunlun-jax
report` shows it. Every input is one evaluation of --max_examples examples.
"""

import pathlib
import sys
from typing import Any

from absl import app, flags, logging

from kunlun_jax.command_line import one_line, parse_flags, run_program
from kunlun_jax.files import json_lines
from kunlun_jax.metrics.user_bootstrap import ComparisonError
from kunlun_jax.training.finished_run import keep_beside
from kunlun_jax.training.run import USER_ERRORS
from kunlun_jax.training.summary import format_table
from kunlun_jax.why.importance import MAX_EXAMPLES, NUM_RESAMPLES, importance

IMPORTANCE_FILE = "why.json"


def main(argv: list[str]) -> None:
    """Write what the flags ask for."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1]!r:.100}")
    workdir = pathlib.Path(values.run)
    try:
        found = importance(
            workdir,
            task=values.task,
            max_examples=values.max_examples,
            num_resamples=values.resamples,
            seed=values.seed,
            dataset=values.dataset,
            report=_progress,
        )
        out = pathlib.Path(values.out) if values.out else workdir / IMPORTANCE_FILE
        keep_beside(out, json_lines(found), flag="--out=FILE")
    except (*USER_ERRORS, ComparisonError) as error:
        sys.exit(one_line(error))
    print(_screen(found))


def _progress(row: dict[str, Any]) -> None:
    print(f"{row['name']}: NE {row['normalized_entropy']:.5f}", file=sys.stderr, flush=True)


def _screen(found: dict[str, Any]) -> str:
    rows = [
        (
            row["title"],
            row["kind"],
            *(f"{d['value']:+.5f} [{d['low']:+.5f}, {d['high']:+.5f}]"
              for d in row["difference"].values()),
        )
        for row in found["inputs"]
    ]  # fmt: skip
    return format_table(("permuted", "kind", "NE - intact", "AUC - intact"), rows)


if __name__ == "__main__":
    flags.DEFINE_string("run", None, "Working directory of a finished run.", required=True)
    flags.DEFINE_string("out", None, "JSON file; by default why.json in the working directory.")
    flags.DEFINE_string("dataset", None, "Data set of the run, if not where it was.")
    flags.DEFINE_string("task", None, "Label; by default the first one.")
    flags.DEFINE_integer("max_examples", MAX_EXAMPLES, "Test examples; 0: all.", 0)
    flags.DEFINE_integer("resamples", NUM_RESAMPLES, "Resamples of the users.", 1)
    flags.DEFINE_integer("seed", 0, "Seed of the permutations and of the resamples.", 0)
    logging.set_verbosity(logging.FATAL)  # checkpoints are talkative
    run_program(main, parse_flags)
