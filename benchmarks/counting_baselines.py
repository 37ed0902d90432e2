"""What counting reaches on a data set: the rows beside which a model's results stand.

    python -m benchmarks.counting_baselines --dataset=datasets/complete_journey

The models are scikit-learn's gradient boosted trees (300 rounds, stopped early on the validation
split) on raw features without the ids of many levels, and a logistic regression on counts. Counts
are those of the user's earlier events: all of a stream, and those that share an id with the
candidate; they reach back to the beginning, where a model of sequences sees the last few hundred
events. Takes about a quarter of an hour on two cores for Complete Journey's 1.3M examples.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
from absl import app, flags
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.data import Dataset, EventLog, Examples

_DATASET = flags.DEFINE_string("dataset", "datasets/complete_journey", "A built data set.")
_STREAM = flags.DEFINE_string("stream", "purchase", "Stream whose events are counted.")
_IDS = flags.DEFINE_list(
    "ids", ["product", "category"], "Ids that an event and the candidate share."
)
_POPULARITY = flags.DEFINE_string(
    "popularity", "popularity_28d", "Dense feature; not in `context`."
)
_TASK = flags.DEFINE_string("task", None, "Label; by default the first one.")
_ROUNDS = flags.DEFINE_integer("rounds", 300, "Most boosting rounds.")
_OUT = flags.DEFINE_string("out", None, "Where the JSON goes; by default benchmarks/results.")
# Trees take at most so many levels as categories. Ids with more are left out: as ordered numbers
# they let the trees memorise products and weeks of the training period (validation NE 0.78
# instead of 0.76).
MOST_CATEGORIES = 255


@dataclasses.dataclass(frozen=True)
class Part:
    """The features of one split.

    Attributes:
        columns: Features by name.
        labels: [n], 0 or 1.
        weights: [n].
    """

    columns: dict[str, np.ndarray]
    labels: np.ndarray
    weights: np.ndarray

    def matrix(self, names: list[str]) -> np.ndarray:
        """Return the named columns as float32 [n, names]."""
        return np.stack([self.columns[name] for name in names], axis=1).astype(np.float32)


def count_earlier(log: EventLog, name: str, examples: Examples, ends: np.ndarray) -> np.ndarray:
    """Count the user's events before the request that have the candidate's id.

    Args:
        log: Events.
        name: Id feature of the events and sparse feature of the examples.
        examples: The examples.
        ends: Events of the user before the request.

    Returns:
        [n] counts; 0 where the candidate is out of vocabulary.
    """
    event_ids, candidate = log.ids[name], examples.sparse[name][:, 0]
    stride = int(max(event_ids.max(initial=0), candidate.max(initial=0))) + 1
    sizes = np.diff(log.offsets)
    longest = int(sizes.max(initial=0)) + 1
    user = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(event_ids)) - log.offsets[user]
    key = np.sort((user * stride + event_ids) * longest + place)
    first = (examples.users.astype(np.int64) * stride + candidate) * longest
    count = np.searchsorted(key, first + ends) - np.searchsorted(key, first)
    return np.where(candidate > 0, count, 0)


def make_part(dataset: Dataset, split: str, task: int) -> Part:
    """Compute the features of one split."""
    examples, log = dataset.splits[split], dataset.logs[_STREAM.value]
    ends = examples.ends[_STREAM.value]
    columns = {f.name: examples.dense[:, i] for i, f in enumerate(dataset.schema.dense)}
    columns |= {f.name: examples.sparse[f.name][:, 0] for f in dataset.schema.sparse}
    columns["count:user"] = ends
    for name in _IDS.value:
        columns[f"count:user-{name}"] = count_earlier(log, name, examples, ends)
    return Part(columns, examples.labels[:, task], examples.weights)


def fit_trees(parts: dict[str, Part], names: list[str], categories: set[str]) -> np.ndarray:
    """Return the trees' probabilities of the test split."""
    model = HistGradientBoostingClassifier(
        max_iter=_ROUNDS.value,
        early_stopping=True,
        categorical_features=[name in categories for name in names],
        random_state=0,
    )
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    model.fit(
        train.matrix(names),
        train.labels,
        sample_weight=train.weights,
        X_val=validation.matrix(names),
        y_val=validation.labels,
        sample_weight_val=validation.weights,
    )
    print(f"  {model.n_iter_} rounds")
    return model.predict_proba(test.matrix(names))[:, 1]


def fit_regression(parts: dict[str, Part], names: list[str]) -> np.ndarray:
    """Return the test probabilities of a logistic regression on log1p of counts."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    train, test = parts["train"], parts["test"]
    weights = {"logisticregression__sample_weight": train.weights}
    model.fit(np.log1p(train.matrix(names)), train.labels, **weights)
    return model.predict_proba(np.log1p(test.matrix(names)))[:, 1]


def evaluate(probability: np.ndarray, test: Part, train_rate: float) -> dict[str, float]:
    """Return AUC, log loss and normalized entropy (by the training set's mean label)."""
    loss = log_loss(test.labels, probability, sample_weight=test.weights)
    entropy = -(train_rate * np.log(train_rate) + (1 - train_rate) * np.log(1 - train_rate))
    return {
        "auc_roc": float(roc_auc_score(test.labels, probability, sample_weight=test.weights)),
        "log_loss": float(loss),
        "normalized_entropy": float(loss / entropy),
    }


def run(dataset: Dataset, task: int) -> list[dict[str, Any]]:
    """Fit and evaluate every row, printing each."""
    parts = {name: make_part(dataset, name, task) for name in dataset.splits}
    train_rate = float(np.average(parts["train"].labels, weights=parts["train"].weights))
    schema = dataset.schema
    categories = {
        f.name
        for f in schema.sparse
        if schema.vocabulary_by_name[f.vocabulary].num_rows <= MOST_CATEGORIES
    }
    counts = [name for name in parts["train"].columns if name.startswith("count:")]
    dense = [f.name for f in schema.dense if f.name != _POPULARITY.value]
    context = dense + sorted(categories)
    popularity = [_POPULARITY.value] if _POPULARITY.value in parts["train"].columns else []
    tree_rows = {
        "trees: context": context,
        "trees: context + popularity": context + popularity,
        "trees: context + counts": context + counts,
        "trees: context + popularity + counts": context + popularity + counts,
    }
    test = parts["test"]
    result = [_row("constant", [], np.full(len(test.labels), train_rate), test, train_rate, 0.0)]
    start = time.perf_counter()
    probability = fit_regression(parts, counts)
    seconds = time.perf_counter() - start
    row = _row("logistic regression: counts", counts, probability, test, train_rate, seconds)
    result.append(row)
    for name, features in tree_rows.items():
        start = time.perf_counter()
        probability = fit_trees(parts, features, categories)
        seconds = time.perf_counter() - start
        result.append(_row(name, features, probability, test, train_rate, seconds))
    return result


def _row(
    name: str,
    features: list[str],
    probability: np.ndarray,
    test: Part,
    train_rate: float,
    seconds: float,
) -> dict[str, Any]:
    metrics = evaluate(probability, test, train_rate)
    auc, loss, entropy = metrics.values()
    print(f"{name:<40} {auc:.4f} {loss:.4f} {entropy:.4f} {seconds:6.0f} s", flush=True)
    return {"name": name, **metrics, "seconds": round(seconds, 1), "features": features}


def main(argv: list[str]) -> None:
    """Open the data set, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    dataset = Dataset.open(_DATASET.value)
    labels = dataset.schema.labels
    task = labels.index(_TASK.value) if _TASK.value else 0
    print(f"{dataset.schema.name}: {labels[task]}: test AUC, log loss, normalized entropy")
    rows = run(dataset, task)
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
