"""Compares two finished runs on the same test examples.

    kunlun-jax compare runs/a runs/b    # or python -m kunlun_jax.compare

Prints one line and writes it as JSON: NE and AUC of both, the differences b - a with 95 % intervals
and p-values of a bootstrap over users (`metrics/user_bootstrap.py`). One run each says if these
two models differ on other users of this kind; not whether other seeds would.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags

from kunlun_jax.command_line import parse_flags, run_program
from kunlun_jax.metrics.comparison import METRICS, difference, measure, task_column
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import NUM_RESAMPLES, ComparisonError, UserBootstrap
from kunlun_jax.training.finished_run import keep_beside, open_finished
from kunlun_jax.training.results import predict
from kunlun_jax.training.run import USER_ERRORS, Run


@dataclasses.dataclass(frozen=True)
class _Scored:
    """A run's predictions, and what has to agree between two runs."""

    workdir: str
    step: int
    dataset: str
    identity: str
    label_rate: float
    labels: tuple[str, ...]
    task: int
    scores: Scores


def compare_runs(
    first: str,
    second: str,
    *,
    split: str = "test",
    task: str | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    dataset: str | None = None,
) -> dict[str, Any]:
    """Evaluate the best checkpoints of two runs on all examples of a split and compare them.

    Args:
        first: Working directory of a finished run, a.
        second: Of another, b.
        split: "validation" or "test".
        task: Label; by default the first one.
        num_resamples: Resamples of the users.
        seed: Seed of the resamples.
        dataset: Where the data set of both lies, if not where it was.

    Returns:
        JSON-serialisable: "a" and "b" with their metrics, and "difference", b - a by metric.

    Raises:
        ComparisonError: If the data sets or the examples differ, or there is no such task.
    """
    a = _score(first, split, task, dataset, lambda run: None)

    def require_same_data(run: Run) -> None:
        other = run.data.dataset
        if other.identity != a.identity:
            raise ComparisonError(
                f"expected two runs of one data set, got {a.dataset} ({a.identity[:12]}) in "
                f"{first} and {run.data.schema.name} ({other.identity[:12]}) in {second}"
            )

    b = _score(second, split, task, dataset, require_same_data)
    if not a.scores.same_examples(b.scores):
        raise ComparisonError(f"expected the same {split} examples in {first} and {second}")
    bootstrap = UserBootstrap(a.scores.user_ids, num_resamples=num_resamples, seed=seed)
    measured = [measure(x.scores, bootstrap, label_rate=x.label_rate, task=x.task) for x in (a, b)]
    runs = {
        name: {
            "workdir": run.workdir,
            "step": run.step,
            **{metric: getattr(result, metric) for metric in METRICS},
        }
        for name, run, result in zip("ab", (a, b), measured, strict=True)
    }
    found = {name: dataclasses.asdict(x) for name, x in difference(*measured).items()}
    return {
        "dataset": a.dataset,
        "dataset_identity": a.identity,
        "split": split,
        "task": a.labels[a.task],
        "tasks": list(a.labels),
        "num_examples": len(a.scores),
        "num_users": bootstrap.num_users,
        "num_resamples": num_resamples,
        "seed": seed,
        **runs,
        "difference": found,
    }


def _score(
    workdir: str,
    split: str,
    task: str | None,
    dataset: str | None,
    check: Callable[[Run], None],
) -> _Scored:
    """Predict a split, unless the check raises."""
    with open_finished(workdir, dataset=dataset) as (run, state):
        check(run)
        column = task_column(run.data.schema.labels, task)
        return _Scored(
            workdir=workdir,
            step=int(state.step),
            dataset=run.data.schema.name,
            identity=run.data.dataset.identity,
            label_rate=run.data.label_rates[column],
            labels=run.data.schema.labels,
            task=column,
            scores=predict(run, state, split),
        )


def line(result: dict[str, Any]) -> str:
    """Return the result of `compare_runs` as one line."""
    parts = []
    for name, metric in zip(("NE", "AUC"), METRICS, strict=True):
        a, b, found = result["a"][metric], result["b"][metric], result["difference"][metric]
        parts.append(
            f"{name} {b:.5f} against {a:.5f}: {found['value']:+.5f} "
            f"[{found['low']:+.5f}, {found['high']:+.5f}], p = {found['p_value']:.4f}"
        )
    whom = f"{result['b']['workdir']} against {result['a']['workdir']}"
    if len(result["tasks"]) > 1:
        whom += f", label {result['task']} (one of {len(result['tasks'])}; --task names another)"
    return f"{whom}: {'; '.join(parts)}"


def main(argv: list[str]) -> None:
    """Compare the two working directories given as arguments."""
    if len(argv) != 3:
        raise app.UsageError("expected the working directories of two runs")
    _, first, second = argv
    try:
        result = compare_runs(
            first,
            second,
            split=flags.FLAGS.split,
            task=flags.FLAGS.task,
            num_resamples=flags.FLAGS.resamples,
            seed=flags.FLAGS.seed,
            dataset=flags.FLAGS.dataset,
        )
        text = json.dumps(result, indent=1) + "\n"
        if flags.FLAGS.out:
            pathlib.Path(flags.FLAGS.out).write_text(text)
        else:
            name = f"compare_{pathlib.Path(second).resolve().name}.json"
            keep_beside(pathlib.Path(first) / name, text, flag="--out=FILE")
    except (*USER_ERRORS, ComparisonError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(line(result))


if __name__ == "__main__":  # not above: both commands have flags of one name
    flags.DEFINE_enum("split", "test", ["validation", "test"], "Examples to compare on.")
    flags.DEFINE_string("task", None, "Label; by default the first one.")
    flags.DEFINE_integer("resamples", NUM_RESAMPLES, "Resamples of the users.", 1)
    flags.DEFINE_integer("seed", 0, "Seed of the resamples.", 0)
    flags.DEFINE_string("dataset", None, "Data set of both runs, if not where it was.")
    flags.DEFINE_string("out", None, "JSON file; by default A/compare_NAME_OF_B.json.")
    run_program(main, parse_flags, quiet=True)
