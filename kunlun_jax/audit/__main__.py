"""Audits a finished run: what would counting reach, and what does the model owe to order and time?

    kunlun-jax audit --workdir=runs/base    # or python -m kunlun_jax.audit

Writes audit.json and audit.md into the working directory, or into --out, and prints the same
tables. The run is only read, and may lie where nothing can be written; --dataset says where its
data set is, if not where it was. The counting rows depend on the data set alone: they are kept in
counting.json there, and --counting reads those of another audit or of
benchmarks/counting_baselines.py. The trees need scikit-learn (`pip install 'kunlun_jax[audit]'`)
and, for a million examples, some ten minutes each; the model is evaluated a dozen times.
"""

import json
import pathlib
import sys
from typing import Any

from absl import flags

from kunlun_jax.audit.counting import NUM_ROUNDS, counting_rows
from kunlun_jax.audit.report import add_shares, markdown, references, screen, verdict
from kunlun_jax.audit.shortcuts import AuditOptions, audit_model
from kunlun_jax.command_line import parse_flags, run_program
from kunlun_jax.data import Dataset
from kunlun_jax.environment import environment
from kunlun_jax.files import json_lines
from kunlun_jax.metrics.comparison import task_column
from kunlun_jax.metrics.user_bootstrap import NUM_RESAMPLES, ComparisonError
from kunlun_jax.training.finished_run import keep_beside, open_finished
from kunlun_jax.training.run import USER_ERRORS

COUNTING_FILE = "counting.json"
_OUT = "--out=DIRECTORY"
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")


def audit(
    workdir: pathlib.Path,
    *,
    counting: pathlib.Path | None = None,
    num_rounds: int = NUM_ROUNDS,
    task: str | None = None,
    max_examples: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    dataset: str | None = None,
    out: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Audit a run; the parameters are the flags.

    Returns:
        What is written as JSON.

    Raises:
        ComparisonError: If counting rows of another data set or task were given, or there is no
            such task.
        ImportError: If rows have to be made and scikit-learn is not installed.
    """
    with open_finished(workdir, dataset=dataset) as (run, state):
        data, schema = run.data.dataset, run.data.schema
        column = task_column(schema.labels, task)
        # First, because rows of other data are refused and a model takes long.
        rows = _counting(data, schema.labels[column], out or workdir, counting, num_rounds)
        options = AuditOptions(column, max_examples, num_resamples, seed)
        model = audit_model(run, state, options, report=_progress)
        found = references(rows)
        model = add_shares(model, found)
        return {
            "workdir": str(workdir),
            "family": run.config.model.name,
            "step": int(state.step),
            "dataset": schema.name,
            "dataset_identity": data.identity,
            "task": schema.labels[column],
            "tasks": list(schema.labels),
            "num_resamples": num_resamples,
            "seed": seed,
            "environment": environment(_LIBRARIES),
            "references": {name: row["name"] for name, row in found.items()},
            "verdict": verdict(model, found),
            "model": model,
            "counting": rows,
        }


def _counting(
    dataset: Dataset,
    task: str,
    directory: pathlib.Path,
    given: pathlib.Path | None,
    num_rounds: int,
) -> list[dict[str, Any]]:
    """Return the counting rows of a data set: read, or made and kept."""
    kept = directory / COUNTING_FILE
    path = given or kept
    content = {"dataset_identity": dataset.identity, "task": task}
    if path.exists() or given:
        try:
            read = json.loads(path.read_text())
            if all(read[key] == value for key, value in content.items()):
                return read["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ComparisonError(f"{path}: expected counting rows as JSON: {error!r}") from error
    if given:
        raise ComparisonError(
            f"{path}: expected counting rows of {dataset.schema.name} "
            f"({dataset.identity[:12]}), label {task!r}, got others"
        )
    column = dataset.schema.labels.index(task)
    rows = counting_rows(dataset, task=column, num_rounds=num_rounds, report=_progress)
    keep_beside(kept, json.dumps({**content, "rows": rows}, indent=1) + "\n", flag=_OUT)
    return rows


def _progress(row: dict[str, Any]) -> None:
    print(f"{row['name']}: NE {row['normalized_entropy']:.5f}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Audit the run that the flags name, and write the report."""
    try:
        if len(argv) > 1 or not flags.FLAGS.workdir:
            raise ComparisonError("expected --workdir=DIRECTORY of a finished run, and flags only")
        workdir = pathlib.Path(flags.FLAGS.workdir)
        out = pathlib.Path(flags.FLAGS.out) if flags.FLAGS.out else None
        if out:
            out.mkdir(parents=True, exist_ok=True)  # fails before the slow part
        content = audit(
            workdir,
            counting=pathlib.Path(flags.FLAGS.counting) if flags.FLAGS.counting else None,
            num_rounds=flags.FLAGS.rounds,
            task=flags.FLAGS.task,
            max_examples=flags.FLAGS.max_examples,
            num_resamples=flags.FLAGS.resamples,
            seed=flags.FLAGS.seed,
            dataset=flags.FLAGS.dataset,
            out=out,
        )
        texts = {"audit.json": json_lines(content), "audit.md": markdown(content)}
        written = [
            str((out or workdir) / name)
            for name, text in texts.items()
            if keep_beside((out or workdir) / name, text, flag=_OUT)
        ]
    except (*USER_ERRORS, ComparisonError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(screen(content))
    if written:
        print(f"\nwritten: {', '.join(written)}")


if __name__ == "__main__":  # not above: both commands have flags of one name
    flags.DEFINE_string("workdir", None, "Working directory of a finished run.")
    flags.DEFINE_string("dataset", None, "Data set of the run, if not where it was.")
    flags.DEFINE_string("out", None, "Directory of the report; by default the workdir.")
    flags.DEFINE_string("counting", None, "JSON file with counting rows of the data set.")
    flags.DEFINE_integer("rounds", NUM_ROUNDS, "Most boosting rounds.", 1)
    flags.DEFINE_string("task", None, "Label; by default the first one.")
    flags.DEFINE_integer("max_examples", 0, "Test examples for the model; 0: all.", 0)
    flags.DEFINE_integer("resamples", NUM_RESAMPLES, "Resamples of the users.", 1)
    flags.DEFINE_integer("seed", 0, "Seed of the perturbations and of the resamples.", 0)
    run_program(main, parse_flags, quiet=True)
