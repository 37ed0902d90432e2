"""The labels of the synthetic data set: the probability, known, of what a user does.

    P(label = 1) = sigmoid(z)
    z = BASE + sum_s affinity_weight_s * affinity_s + REPEAT * repeat
        + need_weight * need + transition_weight * follows
        + quality[item] + bias[segment] + CONTEXT * context_value

over the last `history_len` events of each stream s strictly before the request, with the weight
d = exp(-age / MEMORY) of an event:

    affinity_s  share of the weight d whose event has the candidate's category; 0 without events
    repeat      largest d of a purchase of the very candidate; 0 without one
    need        exp(-((a / p - 1) / NEED_WIDTH)^2 / 2) for the age a of the last purchase of the
                candidate's category and the category's period p, one of NEED_PERIODS; 0 without
                such a purchase. Who forgets when events were cannot know it
    follows     1 if the candidate's category is the next one after the last purchase's, else 0.
                Who forgets the order of events cannot know it
    quality     normal with deviation QUALITY, fixed per item
    bias        normal with deviation BIAS, fixed per segment of users
"""

import dataclasses

import numpy as np

from kunlun_jax.data import counter_random
from kunlun_jax.data.sources.synthetic_events import (
    DAY,
    PURCHASE,
    STREAMS,
    Options,
    category_of,
    next_category,
)
from kunlun_jax.data.tables import EventLog

BASE = -2.9
REPEAT = 2.0
QUALITY = 0.5
BIAS = 0.3
CONTEXT = 0.5
MEMORY = 30 * DAY
NEED_PERIODS = np.asarray([7, 14, 28]) * DAY
NEED_WIDTH = 0.25
ROWS_AT_ONCE = 8192


@dataclasses.dataclass(frozen=True)
class Requests:
    """What is known of examples before their labels, and the logs behind it; [n] each.

    Attributes:
        split: Name of the split.
        index: Number of the example in its split.
        user: Index of the user in the data set.
        row: Index of the user in `logs`.
        time: Unix seconds.
        segment: Segment of the user, from 0.
        context: The context value.
        item: The candidate, from 1.
        ends: By stream, events before the request.
        logs: Logs of all users that occur.
    """

    split: str
    index: np.ndarray
    user: np.ndarray
    row: np.ndarray
    time: np.ndarray
    segment: np.ndarray
    context: np.ndarray
    item: np.ndarray
    ends: dict[str, np.ndarray]
    logs: dict[str, EventLog]


def true_logits(options: Options, requests: Requests) -> np.ndarray:
    """The z of the module's formula."""
    seed = options.seed
    logits = (
        BASE
        + QUALITY * counter_random.normal(seed, "quality", requests.item)
        + BIAS * counter_random.normal(seed, "bias", requests.segment)
        + CONTEXT * requests.context
    )
    for start in range(0, len(logits), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(logits)))
        item = requests.item[rows, None]
        category = category_of(options, item)
        for stream in (stream for stream in STREAMS if stream.affinity_weight):
            weight, age, events = _recent(options, requests, stream.name, rows)
            ids = requests.logs[stream.name].ids
            same_category = ids["category"][events] == category
            total = weight.sum(axis=1)
            matching = (weight * same_category).sum(axis=1)
            logits[rows] += stream.affinity_weight * matching / np.where(total > 0, total, 1.0)
            if stream is PURCHASE:
                same_item = ids["item"][events] == item
                logits[rows] += REPEAT * (weight * same_item).max(axis=1, initial=0.0)
                last = ids["category"][events[:, :1]]
                follows = (weight[:, :1] > 0) & (category == next_category(options, last))
                logits[rows] += options.transition_weight * follows.any(axis=1)
                bought = np.where((weight > 0) & same_category, age, np.inf)
                need = _need(options, category[:, 0], bought.min(axis=1, initial=np.inf))
                logits[rows] += options.need_weight * need
    return logits


def _need(options: Options, category: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return how due each category is, so many seconds (inf: never) after its last purchase."""
    drawn = counter_random.integers(len(NEED_PERIODS), options.seed, "period", category)
    return np.exp(-(((age / NEED_PERIODS[drawn] - 1) / NEED_WIDTH) ** 2) / 2)


def _recent(
    options: Options, requests: Requests, stream: str, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the last events of a stream, latest first, [rows, events] each.

    Returns:
        Weights d, 0 where there is no event; ages in seconds; positions in the log.
    """
    log, end = requests.logs[stream], requests.ends[stream][rows, None]
    if not len(log.times):
        nothing = np.zeros((len(rows), 0))
        return nothing, nothing, nothing.astype(np.int64)
    back = np.arange(1, options.history_len + 1)
    position = log.offsets[requests.row[rows], None] + end - np.minimum(back, end)
    # A user without events before the request may stand behind the end of the log.
    position = np.minimum(position, len(log.times) - 1)
    age = requests.time[rows, None] - log.times[position]
    return np.where(back <= end, np.exp(-np.maximum(age, 0) / MEMORY), 0.0), age, position
