"""The world behind the synthetic data set: its items, and what its users do.

Items follow Zipf's law. A user has two favourite categories; each changes once in DRIFT, and
gradually. The three streams follow the favourites to different degrees. Every number is a pure
function of the seed and of counters (`counter_random`), so any user's log can be made alone.
"""

import dataclasses
import functools

import numpy as np

from kunlun_jax.data import counter_random
from kunlun_jax.data.tables import EventLog

DAY = 86400
START = 1_600_000_000
HORIZON = 360 * DAY
DRIFT = 90 * DAY
NUM_FAVOURITES = 2
REPEAT_SHARE = 0.3
REPEAT_REACH = 8
ACTIVITY_LEVELS = 3
ZIPF_EXPONENT = 1.0


@dataclasses.dataclass(frozen=True)
class Stream:
    """A kind of event.

    Attributes:
        name: Name of the stream.
        interest_share: Probability that an event follows the user's favourites.
        affinity_weight: Weight in the label of the share of the candidate's category in the stream.
    """

    name: str
    interest_share: float
    affinity_weight: float


PURCHASE = Stream("purchase", interest_share=0.9, affinity_weight=4.0)
STREAMS = (
    PURCHASE,
    Stream("click", interest_share=0.5, affinity_weight=2.0),
    Stream("view", interest_share=0.0, affinity_weight=0.0),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The size of the data set and its seed.

    Attributes:
        num_users: Users.
        num_items: Items; item 1 is the most popular.
        num_categories: Categories; item j is in category (j - 1) % num_categories + 1.
        num_train: Training examples.
        num_validation: Validation examples.
        num_test: Test examples.
        events_per_user: Events of the most active users in each stream.
        history_len: Most recent events of each stream that the label depends on, and the most
            that the data set offers to a model.
        need_weight: Weight in the label of how due the candidate's category is, by the time since
            the user last bought of it; 0: purchases answer no needs.
        transition_weight: Weight in the label of a candidate of the category that follows the
            last purchase's, whose place some random candidates take; 0: no category follows.
        seed: Seed of everything.

    Raises:
        ValueError: If a number is not positive (a weight may be 0, the seed may be any), or there
            are fewer items than categories.
    """

    num_users: int = 5_000
    num_items: int = 5_000
    num_categories: int = 50
    num_train: int = 100_000
    num_validation: int = 10_000
    num_test: int = 20_000
    events_per_user: int = 128
    history_len: int = 64
    need_weight: float = 0.0
    transition_weight: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 0 if field.name.endswith("_weight") else 1
            value = getattr(self, field.name)
            if field.name != "seed" and not value >= least:
                raise ValueError(f"{field.name}: expected at least {least}, got {value}")
        if self.num_items < self.num_categories:
            raise ValueError(
                f"num_items: expected at least num_categories = {self.num_categories}, "
                f"got {self.num_items}"
            )


def category_of(options: Options, item: np.ndarray) -> np.ndarray:
    """Return the category, from 1, of each item, from 1."""
    return (item - 1) % options.num_categories + 1


def next_category(options: Options, category: np.ndarray) -> np.ndarray:
    """Return the category, from 1, that follows each one."""
    return category % options.num_categories + 1


def make_logs(options: Options, users: np.ndarray) -> dict[str, EventLog]:
    """Make the logs of the given users; offset u is that of the u-th of them."""
    return {stream.name: _make_log(options, stream, users) for stream in STREAMS}


def draw_favourite(
    options: Options, purpose: str, user: np.ndarray, time: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Draw a category, from 1, of the user's favourites at a time.

    Args:
        options: Options of the data set.
        purpose: What for; with user and index, names the draw.
        user: [n].
        time: [n], Unix seconds.
        index: [n], number of the draw among the user's.
    """
    seed = options.seed
    slot = counter_random.integers(NUM_FAVOURITES, seed, f"{purpose}: slot", user, index)
    phase = counter_random.uniform(seed, "favourite: phase", user, slot)
    position = (time - START) / DRIFT + phase
    epoch = np.floor(position)
    turned = counter_random.uniform(seed, f"{purpose}: drift", user, index) < position - epoch
    epoch = epoch.astype(np.int64) + turned
    return 1 + counter_random.integers(options.num_categories, seed, "favourite", user, slot, epoch)


def draw_item(options: Options, unit: np.ndarray) -> np.ndarray:
    """Map uniform numbers in [0, 1) to items, from 1, by Zipf's law over all items."""
    cumulative = _cumulative_weights(options.num_items, 1)
    return _invert(cumulative, unit * cumulative[-1], options.num_items)


def draw_item_of(options: Options, category: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Map uniform numbers in [0, 1) to items of the given categories, by Zipf's law."""
    count = options.num_categories
    cumulative = _cumulative_weights(options.num_items, count)
    # The items of a category are category, category + count, ...; they stand in a row here.
    sizes = (options.num_items - np.arange(1, count + 1)) // count + 1
    first = np.concatenate([[0], np.cumsum(sizes)])
    low, high = cumulative[first[category - 1]], cumulative[first[category]]
    position = _invert(cumulative, low + unit * (high - low), options.num_items) - 1
    position = np.clip(position, first[category - 1], first[category] - 1)
    return category + count * (position - first[category - 1])


def _rhythm(options: Options, stream: Stream, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Second of joining, and seconds per event; event n is in the n-th period after joining."""
    join = counter_random.integers(HORIZON // 2, options.seed, "join", users)
    level = counter_random.integers(
        ACTIVITY_LEVELS, options.seed, f"{stream.name}: activity", users
    )
    return join, max(HORIZON // options.events_per_user, 1) * 2**level


def _make_log(options: Options, stream: Stream, users: np.ndarray) -> EventLog:
    seed, name = options.seed, stream.name
    join, period = _rhythm(options, stream, users)
    offsets = np.concatenate([[0], np.cumsum((HORIZON - join) // period)])
    row = np.repeat(np.arange(len(users)), np.diff(offsets))
    n = np.arange(offsets[-1]) - offsets[row]
    user = users[row]
    jitter = counter_random.integers(period[row], seed, f"{name}: jitter", user, n)
    times = START + join[row] + n * period[row] + jitter

    unit = counter_random.uniform(seed, f"{name}: item", user, n)
    category = draw_favourite(options, name, user, times, n)
    follows = counter_random.uniform(seed, f"{name}: follows", user, n) < stream.interest_share
    item = np.where(follows, draw_item_of(options, category, unit), draw_item(options, unit))
    # A repetition copies what an earlier event would have been without repetitions, so that no
    # event waits for another.
    repeats = counter_random.uniform(seed, f"{name}: repeats", user, n) < REPEAT_SHARE
    lag = 1 + counter_random.integers(REPEAT_REACH, seed, f"{name}: lag", user, n)
    item = np.where(repeats, item[offsets[row] + np.maximum(n - lag, 0)], item)
    amount = np.exp(counter_random.normal(seed, f"{name}: amount", user, n))
    ids = {"item": item.astype(np.int32), "category": category_of(options, item).astype(np.int32)}
    return EventLog(offsets, times, ids, amount.astype(np.float32)[:, None])


@functools.lru_cache(maxsize=4)
def _cumulative_weights(num_items: int, num_categories: int) -> np.ndarray:
    """[items + 1] cumulative Zipf weights, the items ordered by category, then by rank."""
    item = np.arange(num_items)
    order = np.argsort(item % num_categories, kind="stable")
    return np.concatenate([[0.0], np.cumsum((item[order] + 1.0) ** -ZIPF_EXPONENT)])


def _invert(cumulative: np.ndarray, target: np.ndarray, num_items: int) -> np.ndarray:
    return np.clip(np.searchsorted(cumulative, target, side="right"), 1, num_items)
