"""Prints the size of each MovieLens-1M split and the test AUC of two baselines without a model.

    python benchmarks/movielens_1m_baselines.py --path=DIRECTORY_OF_THE_FILES

`static` adds the movie's and the user's like rate over the training split (the mean label where
training has none); `running` adds the two like rates so far, which the models get as features.
Running rates go on through the test period, as histories do: published results of models
whose features stop at the end of training compare with `static`.
"""

import json
import pathlib

import numpy as np
from absl import app, flags

from kunlun_jax.data.sources import movielens_1m, movielens_1m_files
from kunlun_jax.data.sources.movielens_1m_splits import LIKED, SPLIT_RULES, TRAIN, split_ratings
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.metrics.grouped_auc import grouped_auc

_PATH = flags.DEFINE_string("path", None, "Directory of the MovieLens-1M files.", required=True)


def like_rates(key: np.ndarray, liked: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return, for each rating, the like rate of its key in training."""
    size = key.max() + 1
    count = np.bincount(key[train], minlength=size)
    likes = np.bincount(key[train], weights=liked[train], minlength=size)
    rate = np.where(count > 0, likes / np.maximum(count, 1), liked[train].mean())
    return rate[key]


def measure(path: str, split: str) -> dict[str, str | int | float]:
    """Return the sizes and baselines of one split."""
    ratings, part = split_ratings(movielens_1m_files.read(pathlib.Path(path)).ratings, split)
    liked, test = ratings.rating >= LIKED, part == SPLITS.index("test")
    movie_rate, user_rate = (
        like_rates(key, liked, part == TRAIN) for key in (ratings.movie, ratings.user)
    )
    tables = movielens_1m.load(movielens_1m.Options(path, split))
    names = [feature.name for feature in tables.schema.dense]
    columns = [names.index("movie_like_rate"), names.index("user_like_rate")]
    examples = tables.splits["test"]
    running = examples.dense[:, columns].astype(np.float64).sum(axis=1)
    return {
        "split": split,
        **{name: len(rows) for name, rows in tables.splits.items()},
        "test_like_rate": round(float(liked[test].mean()), 4),
        "static_auc": round(auc((movie_rate + user_rate)[test], liked[test]), 4),
        "running_auc": round(auc(running, examples.labels[:, 0]), 4),
    }


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the exact AUC: that of a single group."""
    return grouped_auc(np.zeros(len(labels), np.int64), scores, labels)


def main(argv: list[str]) -> None:
    """Measure every split and print one JSON object a line."""
    del argv
    for split in SPLIT_RULES:
        print(json.dumps(measure(_PATH.value, split)))


if __name__ == "__main__":
    app.run(main)
