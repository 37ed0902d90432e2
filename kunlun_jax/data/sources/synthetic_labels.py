"""The labels of the synthetic data set: the probability, known, of what a user does.

    P(label = 1) = sigmoid(z)
    z = BASE + sum_s affinity_weight_s * affinity_s + REPEAT * repeat
        + quality[item] + bias[segment] + CONTEXT * context_value

over the last `history_len` events of each stream s strictly before the request, with the weight
d = exp(-age / MEMORY) of an event:

    affinity_s  share of the weight d whose event has the candidate's category; 0 without events
    repeat      largest d of a purchase of the very candidate; 0 without one
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
)
from kunlun_jax.data.tables import EventLog

BASE = -2.9
REPEAT = 2.0
QUALITY = 0.5
BIAS = 0.3
CONTEXT = 0.5
MEMORY = 30 * DAY
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
        for stream in (stream for stream in STREAMS if stream.affinity_weight):
            weight, events = _recent(options, requests, stream.name, rows)
            ids = requests.logs[stream.name].ids
            category = category_of(options, requests.item[rows, None])
            matching = (weight * (ids["category"][events] == category)).sum(axis=1)
            total = weight.sum(axis=1)
            logits[rows] += stream.affinity_weight * matching / np.where(total > 0, total, 1.0)
            if stream is PURCHASE:
                same = ids["item"][events] == requests.item[rows, None]
                logits[rows] += REPEAT * (weight * same).max(axis=1, initial=0.0)
    return logits


def _recent(
    options: Options, requests: Requests, stream: str, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights d [rows, events], 0 where there is no event, and positions in the log."""
    log, end = requests.logs[stream], requests.ends[stream][rows, None]
    if not len(log.times):
        return np.zeros((len(rows), 0)), np.zeros((len(rows), 0), np.int64)
    back = np.arange(1, options.history_len + 1)
    position = log.offsets[requests.row[rows], None] + end - np.minimum(back, end)
    # A user without events before the request may stand behind the end of the log.
    position = np.minimum(position, len(log.times) - 1)
    age = requests.time[rows, None] - log.times[position]
    return np.where(back <= end, np.exp(-np.maximum(age, 0) / MEMORY), 0.0), position
