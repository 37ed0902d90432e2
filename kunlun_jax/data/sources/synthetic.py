"""An endless synthetic data set whose best possible normalized entropy is known.

Every user's log is a pure function of (seed, user), every example one of (seed, split, index), so
any worker can make any of them. Everything that a label depends on is in the data, by the formula
in `synthetic_labels.py`; how users behave is told in `synthetic_events.py`.

A candidate comes from the user's favourites (40 %), from the last purchases (30 %) or from all
items (30 %; 10 % where categories follow each other, and 20 % from the one that follows the last
purchase's). Training, validation and test requests follow each other in time.
"""

import numpy as np
from tqdm import tqdm

from kunlun_jax.data import counter_random
from kunlun_jax.data import schema as schemas
from kunlun_jax.data.sources.encoding import events_before
from kunlun_jax.data.sources.synthetic_events import (
    HORIZON,
    PURCHASE,
    START,
    STREAMS,
    Options,
    category_of,
    draw_favourite,
    draw_item,
    draw_item_of,
    make_logs,
    next_category,
)
from kunlun_jax.data.sources.synthetic_labels import Requests, true_logits
from kunlun_jax.data.tables import SPLITS, EventLog, Examples, SourceTables

NUM_SEGMENTS = 8
# Requests of a split fall into this part of the horizon.
PERIODS = {"train": (0.2, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
FAVOURITE_SHARE = 0.4
PURCHASED_SHARE = 0.3
FOLLOWING_SHARE = 0.2
PURCHASED_REACH = 16

__all__ = ["Options", "bayes_normalized_entropy", "examples", "load", "probabilities"]


def load(options: Options) -> SourceTables:
    """Make the whole data set."""
    with tqdm(total=1 + len(SPLITS), desc="synthetic", unit="part") as bar:
        logs = make_logs(options, np.arange(options.num_users))
        bar.update(1)
        splits = {}
        for split in SPLITS:
            index = np.arange(num_examples(options, split))
            users = np.arange(options.num_users)
            splits[split] = examples_of(options, split, index, users=users, logs=logs)
            bar.update(1)
    return SourceTables(
        schema=make_schema(options),
        num_users=options.num_users,
        logs=logs,
        splits=splits,
        checksums={},
    )


def examples(options: Options, split: str, start: int, stop: int) -> Examples:
    """Make the examples start : stop of a split by themselves, equal to those of `load`.

    Args:
        options: Options of the data set; its number of examples is no limit here.
        split: "train", "validation" or "test".
        start: First example, >= 0.
        stop: Example behind the last.

    Raises:
        ValueError: On an unknown split or a negative start.
    """
    requests = _requests(options, split, start, stop)
    return _label(options, requests, true_logits(options, requests))


def examples_of(
    options: Options,
    split: str,
    index: np.ndarray,
    *,
    users: np.ndarray,
    logs: dict[str, EventLog],
) -> Examples:
    """Make the examples of the given numbers, given the logs of their users.

    Args:
        options: Options of the data set.
        split: "train", "validation" or "test".
        index: int64 [n], numbers of examples.
        users: [users], ascending; every user that occurs.
        logs: Their logs, in this order.
    """
    requests = _draw_requests(options, split, index, users=users, logs=logs)
    return _label(options, requests, true_logits(options, requests))


def probabilities(options: Options, split: str, start: int, stop: int) -> np.ndarray:
    """Return the true P(label = 1), float64, of the examples start : stop.

    Raises:
        ValueError: As `examples`.
    """
    return _sigmoid(true_logits(options, _requests(options, split, start, stop)))


def bayes_normalized_entropy(options: Options, split: str = "test") -> float:
    """Return the normalized entropy of the true probabilities, the best there is.

    It is taken on the labels that the split has, not on their expectation: a model's entropy on
    the same labels differs from it by the model alone.

    Raises:
        ValueError: On an unknown split.
    """
    rate = examples(options, "train", 0, options.num_train).labels.mean(dtype=np.float64)
    entropy = -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))
    requests = _requests(options, split, 0, num_examples(options, split))
    logits = true_logits(options, requests)
    signs = 1.0 - 2.0 * _label(options, requests, logits).labels[:, 0].astype(np.float64)
    return float(np.logaddexp(0.0, signs * logits).mean() / entropy)


def num_examples(options: Options, split: str) -> int:
    """Return how many examples `load` makes of a split.

    Raises:
        ValueError: On an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {SPLITS}, got {split!r}")
    return getattr(options, f"num_{split}")


def user_of(options: Options, split: str, index: np.ndarray) -> np.ndarray:
    """Return the user of each example, given their numbers."""
    return counter_random.integers(options.num_users, options.seed, f"{split}: user", index)


def _requests(options: Options, split: str, start: int, stop: int) -> Requests:
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {SPLITS}, got {split!r}")
    if start < 0:
        raise ValueError(f"start: expected at least 0, got {start}")
    return _draw_requests(options, split, np.arange(start, stop))


def _draw_requests(
    options: Options,
    split: str,
    index: np.ndarray,
    *,
    users: np.ndarray | None = None,
    logs: dict[str, EventLog] | None = None,
) -> Requests:
    """Draw everything but the labels; `logs`, if given, are those of `users`."""
    seed = options.seed
    user = user_of(options, split, index)
    if users is None or logs is None:
        users = np.unique(user)
        logs = make_logs(options, users)
    row = np.searchsorted(users, user)
    low, high = (int(HORIZON * bound) for bound in PERIODS[split])
    time = START + low + counter_random.integers(high - low, seed, f"{split}: time", index)
    ends = {name: events_before(log, row, time) for name, log in logs.items()}

    kind = counter_random.uniform(seed, f"{split}: kind", index)
    unit = counter_random.uniform(seed, f"{split}: item", index)
    category = draw_favourite(options, f"{split}: favourite", user, time, index)
    purchases, end = logs[PURCHASE.name], ends[PURCHASE.name]
    lag = 1 + counter_random.integers(PURCHASED_REACH, seed, f"{split}: purchase", index)
    position = purchases.offsets[row] + end - np.minimum(lag, end)
    padded = np.append(purchases.ids["item"], 0)
    item = np.where(
        kind < FAVOURITE_SHARE,
        draw_item_of(options, category, unit),
        np.where(
            (kind < FAVOURITE_SHARE + PURCHASED_SHARE) & (end > 0),
            padded[position],
            draw_item(options, unit),
        ),
    )
    if options.transition_weight:
        last = category_of(options, padded[purchases.offsets[row] + end - np.minimum(1, end)])
        following = draw_item_of(options, next_category(options, last), unit)
        item = np.where((kind >= 1.0 - FOLLOWING_SHARE) & (end > 0), following, item)
    return Requests(
        split=split,
        index=index,
        user=user,
        row=row,
        time=time,
        segment=counter_random.integers(NUM_SEGMENTS, seed, "segment", user),
        context=counter_random.normal(seed, f"{split}: context", index),
        item=item,
        ends=ends,
        logs=logs,
    )


def _label(options: Options, requests: Requests, logits: np.ndarray) -> Examples:
    """Draw the labels and put everything into its columns."""
    count = len(requests.index)
    drawn = counter_random.uniform(options.seed, f"{requests.split}: label", requests.index)
    sparse = {
        "segment": requests.segment + 1,
        "item": requests.item,
        "category": category_of(options, requests.item),
    }
    return Examples(
        users=requests.user.astype(np.int32),
        request_times=requests.time,
        labels=(drawn < _sigmoid(logits)).astype(np.float32)[:, None],
        weights=np.ones(count, np.float32),
        dense=requests.context.astype(np.float32)[:, None],
        sparse={name: ids.astype(np.int32)[:, None] for name, ids in sparse.items()},
        sparse_lengths={name: np.ones(count, np.int32) for name in sparse},
        ends=requests.ends,
    )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits))


def make_schema(options: Options) -> schemas.Schema:
    """Return the schema."""
    sizes = {
        "segment": NUM_SEGMENTS,
        "item": options.num_items,
        "category": options.num_categories,
    }
    candidate = ("item", "category")
    return schemas.Schema(
        name="synthetic",
        vocabularies=tuple(schemas.Vocabulary(name, size) for name, size in sizes.items()),
        dense=(schemas.DenseFeature("context_value"),),
        sparse=tuple(schemas.SparseFeature(name, name) for name in sizes),
        candidate=candidate,
        streams=tuple(
            schemas.EventStream(
                stream.name,
                ids=tuple(schemas.EventId(name, name) for name in candidate),
                dense=(schemas.DenseFeature("amount", log1p=True),),
                max_len=options.history_len,
            )
            for stream in STREAMS
        ),
        labels=("click",),
    )
