"""Tells why a run's model scores as it does.

    kunlun-jax why --run=runs/base
    kunlun-jax why --run=runs/base --example=17
    kunlun-jax why --run=runs/base --request=request.json

`python -m kunlun_jax.why` is the same command. The first prints the importance of every feature,
stream and event attribute: what NE and AUC of the test split lose when the input is permuted, with
intervals by users. It is written to why.json in the working directory, from where `kunlun-jax
report` shows it. Every input is one evaluation of --max_examples examples.

The others explain one score, of an example of a split or of a request in a JSON file, in a page of
HTML: what streams, events and fields add to it, and what the attention looks at.
"""

import json
import pathlib
import sys
from typing import Any

from absl import app, flags, logging

from kunlun_jax.command_line import one_line, parse_flags, run_program
from kunlun_jax.data import Dataset
from kunlun_jax.data.reading.request_values import RequestError
from kunlun_jax.files import json_lines, publish
from kunlun_jax.metrics.user_bootstrap import ComparisonError
from kunlun_jax.serving.trained import open_trained
from kunlun_jax.training.finished_run import keep_beside
from kunlun_jax.training.run import USER_ERRORS
from kunlun_jax.training.run_data import find_dataset
from kunlun_jax.training.summary import format_table
from kunlun_jax.why.importance import MAX_EXAMPLES, NUM_RESAMPLES, importance
from kunlun_jax.why.page import render
from kunlun_jax.why.request import example_of, explain, request_in

IMPORTANCE_FILE = "why.json"


def main(argv: list[str]) -> None:
    """Write what the flags ask for."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1]!r:.100}")
    if values.example is not None and values.request:
        raise app.UsageError("expected --example or --request, got both")
    try:
        if values.example is not None or values.request:
            print(json.dumps({"file": str(_explain_request(values))}))
        else:
            print(_screen(_importance(values)))
    except (*USER_ERRORS, ComparisonError, RequestError) as error:
        sys.exit(one_line(error))


def _importance(values: flags.FlagValues) -> dict[str, Any]:
    found = importance(
        pathlib.Path(values.run),
        task=values.task,
        max_examples=values.max_examples,
        num_resamples=values.resamples,
        seed=values.seed,
        dataset=values.dataset,
        report=_progress,
    )
    out = pathlib.Path(values.out or pathlib.Path(values.run) / IMPORTANCE_FILE)
    keep_beside(out, json_lines(found), flag="--out=FILE")
    return found


def _explain_request(values: flags.FlagValues) -> pathlib.Path:
    workdir = pathlib.Path(values.run)
    trained = open_trained(workdir, dataset=values.dataset)
    if values.request:
        batch, title = request_in(pathlib.Path(values.request), trained), values.request
        name = f"why_{pathlib.Path(values.request).stem}.html"
    else:
        place = find_dataset(workdir, trained.config.data.directory, values.dataset)
        batch = example_of(trained, Dataset.open(place), values.split, values.example)
        title = f"example {values.example} of the {values.split} split"
        name = f"why_{values.split}_{values.example}.html"
    out = pathlib.Path(values.out or workdir / name)
    publish(out, render(explain(trained, batch, title, workdir)))
    return out


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
    flags.DEFINE_string(
        "out", None, "The file; by default why.json or why_....html in the working directory."
    )
    flags.DEFINE_string("dataset", None, "Data set of the run, if not where it was.")
    flags.DEFINE_integer("example", None, "Row of the split whose score is explained.", 0)
    flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Of --example.")
    flags.DEFINE_string("request", None, "JSON file with a request whose score is explained.")
    flags.DEFINE_string("task", None, "Label; by default the first one.")
    flags.DEFINE_integer("max_examples", MAX_EXAMPLES, "Test examples; 0: all.", 0)
    flags.DEFINE_integer("resamples", NUM_RESAMPLES, "Resamples of the users.", 1)
    flags.DEFINE_integer("seed", 0, "Seed of the permutations and of the resamples.", 0)
    logging.set_verbosity(logging.FATAL)  # checkpoints are talkative
    run_program(main, parse_flags)
