"""What counting reaches on a data set, with its popularity feature apart; for the record.

    python -m benchmarks.counting_baselines --dataset=datasets/complete_journey

The rows are those of `kunlun_jax/audit/counting.py`. Takes six processor minutes for Complete
Journey's 1.3M examples; `python -m kunlun_jax.audit --counting=FILE` reads what it writes.
"""

import pathlib
from typing import Any

from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.audit.counting import NUM_ROUNDS, counting_rows
from kunlun_jax.data import Dataset

_DATASET = flags.DEFINE_string("dataset", "datasets/complete_journey", "A built data set.")
_STREAM = flags.DEFINE_string(
    "stream", "purchase", "Stream whose events are counted, where the data set declares no counts."
)
_IDS = flags.DEFINE_list(
    "ids", ["product", "category"], "Likewise: ids that an event and the candidate share."
)
_POPULARITY = flags.DEFINE_string(
    "popularity", "popularity_28d", "Dense feature; not in `context`."
)
_TASK = flags.DEFINE_string("task", None, "Label; by default the first one.")
_ROUNDS = flags.DEFINE_integer("rounds", NUM_ROUNDS, "Most boosting rounds.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")


def print_row(row: dict[str, Any]) -> None:
    """Print one row of the table."""
    auc, loss, entropy = (row[name] for name in ("auc_roc", "log_loss", "normalized_entropy"))
    print(
        f"{row['name']:<40} {auc:.4f} {loss:.4f} {entropy:.4f} {row['seconds']:6.0f} s", flush=True
    )


def main(argv: list[str]) -> None:
    """Open the data set, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    dataset = Dataset.open(_DATASET.value)
    labels = dataset.schema.labels
    task = labels.index(_TASK.value) if _TASK.value else 0
    print(f"{dataset.schema.name}: {labels[task]}: test AUC, log loss, normalized entropy")
    rows = counting_rows(
        dataset,
        task=task,
        counted={_STREAM.value: _IDS.value},
        apart=[_POPULARITY.value],
        num_rounds=_ROUNDS.value,
        report=print_row,
    )
    content = {
        "benchmark": "counting_baselines",
        "dataset": dataset.schema.name,
        "dataset_identity": dataset.identity,
        "source": dataset.manifest["source"],
        "counts": dataset.manifest["counts"],
        "task": labels[task],
        "rows": rows,
        "environment": environment(("numpy", "scikit-learn")),
    }
    name = f"counting_baselines_{dataset.schema.name}.json"
    write_json(pathlib.Path(_OUT.value or RESULTS / name), content)


if __name__ == "__main__":
    app.run(main)
