"""What counting reaches on a data set: the rows beside which a model's results stand.

scikit-learn's gradient boosted trees, stopped early on the validation split, on raw features
without the ids of many levels, and a logistic regression on counts. Counts are the very columns
that a model reads (`data/cross.py`), or, where a data set declares none, those of the user's
earlier events in whole: all of a stream, and those that share an id with the candidate.
"""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kunlun_jax.data import Dataset, DatasetError, Schema
from kunlun_jax.data.counting import count_columns
from kunlun_jax.data.cross import Cross
from kunlun_jax.data.label_rates import training_rate
from kunlun_jax.metrics.binary_metrics import binary_entropy
from kunlun_jax.metrics.user_bootstrap import auc_roc

# Trees take at most so many levels as categories. Ids with more are left out: as ordered numbers
# they let the trees memorise products and weeks of the training period (on Complete Journey,
# validation NE 0.78 instead of 0.76).
MOST_CATEGORIES = 255
NUM_ROUNDS = 300  # of boosting, at most
# Begin the names of the features that count a user's events; "count:" in earlier records.
COUNTS = ("count/", "age/", "count:")
POPULARITY = "popularity/"


@dataclasses.dataclass(frozen=True)
class Part:
    """The features of one split.

    Attributes:
        columns: Features by name.
        labels: [n], 0 or 1.
        weights: [n], > 0.
    """

    columns: dict[str, np.ndarray]
    labels: np.ndarray
    weights: np.ndarray

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """Return the named columns as float32 [n, names]."""
        return np.stack([self.columns[name] for name in names], axis=1).astype(np.float32)


def shared_ids(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return, by stream, the ids that an event can share with the candidate."""
    return {
        stream.name: tuple(x.name for x in stream.ids if x.name in schema.candidate)
        for stream in schema.streams
    }


def make_part(
    dataset: Dataset, split: str, counted: Mapping[str, Sequence[str]], task: int
) -> Part:
    """Compute the features of one split.

    Args:
        dataset: The data set.
        split: Which split.
        counted: By stream whose events are counted, the ids that they share with the candidate;
            of no use where the data set declares count features.
        task: Column of the labels.
    """
    examples = dataset.splits[split]
    used = examples.weights > 0  # the others would count in the trees' bins and leaves
    examples = examples if used.all() else examples.take(used)
    columns = {f.name: examples.dense[:, i] for i, f in enumerate(dataset.schema.dense)}
    columns |= {f.name: examples.sparse[f.name][:, 0] for f in dataset.schema.sparse}
    for stream, names in counted.items() if not dataset.schema.cross else ():
        cross = Cross(stream, tuple(names), ages=False)
        counts = count_columns(cross, dataset.logs[stream], examples)
        columns |= {column.name: counts[:, i] for i, column in enumerate(cross.columns)}
    return Part(columns, examples.labels[:, task], examples.weights)


def fit_trees(
    parts: Mapping[str, Part], names: Sequence[str], categories: set[str], *, num_rounds: int
) -> np.ndarray:
    """Return the boosted trees' probabilities of the test split."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=num_rounds,
        early_stopping=True,  # type: ignore[arg-type]
        categorical_features=[name in categories for name in names],  # type: ignore[arg-type]
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
    return model.predict_proba(test.matrix(names))[:, 1]


def fit_regression(parts: Mapping[str, Part], names: Sequence[str]) -> np.ndarray:
    """Return the test probabilities of a logistic regression on log1p of counts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression())
    train, test = parts["train"], parts["test"]
    weights = {"logisticregression__sample_weight": train.weights}
    fitted, asked = (np.log1p(np.nan_to_num(part.matrix(names))) for part in (train, test))
    model.fit(fitted, train.labels, **weights)
    return model.predict_proba(asked)[:, 1]


def evaluate(probability: np.ndarray, test: Part, train_rate: float) -> dict[str, float]:
    """Return AUC, log loss and normalized entropy (by the training set's weighted mean label)."""
    probability = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    losses = -np.where(test.labels > 0.5, np.log(probability), np.log1p(-probability))
    loss = float(np.average(losses, weights=test.weights))
    return {
        "auc_roc": auc_roc(probability, test.labels, test.weights),
        "log_loss": loss,
        "normalized_entropy": loss / binary_entropy(train_rate),
    }


def _training_rate(dataset: Dataset, task: str) -> float:
    """Return the rate to which NE is relative; refuses splits without any weight."""
    rates, place = dataset.label_rates, dataset.directory
    for split, by_task in rates.items():
        if by_task[task] is None:
            raise DatasetError(
                f"{place}: split {split!r}: expected examples with a weight above 0, got none"
            )
    return training_rate(rates["train"], task, place)


def counting_rows(
    dataset: Dataset,
    *,
    task: int = 0,
    counted: Mapping[str, Sequence[str]] | None = None,
    apart: Sequence[str] = (),
    num_rounds: int = NUM_ROUNDS,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Fit every row on the training split and evaluate it on the test split.

    Args:
        dataset: The data set.
        task: Column of the labels.
        counted: As for `make_part`; by default every stream and every shared id.
        apart: Dense features that get tree rows of their own, apart from the context.
        num_rounds: Most boosting rounds.
        report: Called with every row as soon as there is one.

    Returns:
        Rows with their name, metrics, seconds and features.

    Raises:
        DatasetError: If a split has no example of a weight above 0, or training one class only.
        ImportError: If scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:  # fails before the slow part
        raise ImportError("counting rows need scikit-learn: pip install 'kunlun_jax[audit]'")
    schema = dataset.schema
    train_rate = _training_rate(dataset, schema.labels[task])
    counted = shared_ids(schema) if counted is None else counted
    parts = {name: make_part(dataset, name, counted, task) for name in dataset.splits}
    categories = {
        f.name
        for f in schema.sparse
        if schema.vocabulary_by_name[f.vocabulary].num_rows <= MOST_CATEGORIES
    }
    names = list(parts["train"].columns)
    counts = [name for name in names if name.startswith(COUNTS)]
    popular = [name for name in names if name.startswith(POPULARITY)]
    others = [*(name for name in apart if name in names), *popular]
    of_dense = [f.name for f in schema.dense if f.name not in (*others, *counts)]
    context = of_dense + sorted(categories)
    feature_sets = {"context": context}
    if others:
        feature_sets["context + popularity" if popular else f"context + {others[0]}"] = (
            context + others
        )
    feature_sets |= {f"{name} + counts": x + counts for name, x in feature_sets.items()}

    def trees(features: Sequence[str]) -> np.ndarray:
        return fit_trees(parts, features, categories, num_rounds=num_rounds)

    test = parts["test"]
    fits: list[tuple[str, list[str], Callable[[list[str]], np.ndarray]]] = [
        ("constant", [], lambda _: np.full(len(test.labels), train_rate)),
        ("logistic regression: counts", counts, lambda names: fit_regression(parts, names)),
        *((f"trees: {name}", features, trees) for name, features in feature_sets.items()),
    ]
    rows = []
    for name, features, fit in fits:
        start = time.perf_counter()
        metrics = evaluate(fit(features), test, train_rate)
        seconds = round(time.perf_counter() - start, 1)
        rows.append({"name": name, **metrics, "seconds": seconds, "features": features})
        report(rows[-1])
    return rows
