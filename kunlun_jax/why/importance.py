"""Permutation importance: what a model loses when one of its inputs tells nothing any more."""

import pathlib
from collections.abc import Callable
from typing import Any

from kunlun_jax.audit.shortcuts import AuditOptions, audit_model
from kunlun_jax.environment import environment
from kunlun_jax.metrics.comparison import task_column
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.why.permutations import inputs_of

MAX_EXAMPLES = 20_000
NUM_RESAMPLES = 1000
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")


def importance(
    workdir: pathlib.Path,
    *,
    task: str | None = None,
    max_examples: int = MAX_EXAMPLES,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    dataset: str | None = None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Evaluate the best checkpoint of a run with every input permuted (`permutations.py`).

    Args:
        workdir: The working directory of a finished run; nothing is written there.
        task: Label; by default the first one.
        max_examples: Of the test split, drawn by the run's data seed; 0: all.
        num_resamples: Resamples of the users, behind the intervals.
        seed: Of the permutations and of the resamples.
        dataset: Where the run's data set lies, if not where it was.
        report: Called with every row as soon as there is one.

    Returns:
        JSON-serialisable: "intact" with NE and AUC, and "inputs", a row each with kind, stream,
        name, title and "difference", permuted - intact by metric with intervals, the largest
        loss in NE first.

    Raises:
        ComparisonError: If there is no such task, or the examples do not suffice.
    """
    with open_finished(workdir, dataset=dataset) as (run, state):
        schema = run.data.schema
        column = task_column(schema.labels, task)
        inputs = inputs_of(schema, run.config.model)
        options = AuditOptions(column, max_examples, num_resamples, seed)
        # Numbered, because a feature may have the name of a stream.
        changes = {f"{i}": one.permute for i, one in enumerate(inputs)}

        def told(row: dict[str, Any]) -> None:
            name = row["name"]
            report({**row, "name": inputs[int(name)].title if name.isdigit() else name})

        intact, *rows = audit_model(run, state, options, changes=changes, report=told)
        step = int(state.step)
    found = [
        {
            "kind": one.kind,
            "stream": one.stream,
            "name": one.name,
            "title": one.title,
            "difference": row["difference"],
        }
        for one, row in zip(inputs, rows, strict=True)
    ]
    found.sort(key=lambda row: -row["difference"]["normalized_entropy"]["value"])
    return {
        "workdir": str(workdir),
        "step": step,
        "task": schema.labels[column],
        "tasks": list(schema.labels),
        "num_resamples": num_resamples,
        "seed": seed,
        "environment": environment(_LIBRARIES),
        "intact": intact,
        "inputs": found,
    }
