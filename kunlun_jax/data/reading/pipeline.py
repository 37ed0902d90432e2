"""Batches of fixed shape from a data set, through Grain.

The element that Grain sees is a batch: element i is a pure function of (data set, options, i),
gathered with NumPy. So the order of the data does not depend on threads, and a position is one
number. That number means something only for the same data and options: `fingerprint` says which.

Batch i is that of all processes together. Each gathers only the examples of its own devices, so
neither order nor position nor fingerprint depend on how many processes there are.
"""

import hashlib

import grain
import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.reading.gather import Columns
from kunlun_jax.data.reading.order import PeriodShuffle, WholeShuffle, WindowShuffle, subset
from kunlun_jax.data.tables import SPLITS
from kunlun_jax.files import json_sha256

# Training has no end of its own; the caller decides about the number of steps.
ENDLESS = 2**40


class BatchSource(grain.sources.RandomAccessDataSource):
    """The batches of one split, by index.

    With `shuffle`, endless epochs, each in a new order and without a remainder: batches straddle
    epochs. Without, one pass in order, the last batch filled up with examples of weight 0.

    Attributes:
        batch_size: Examples of a batch.
        num_examples: Examples in use.
        weight: Their weight; without any, they train and measure nothing.
        fingerprint: SHA-256 of the data set's identity and of all options. A saved position is
            only valid for an equal fingerprint.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        split: str,
        batch_size: int,
        max_lens: dict[str, int],
        shuffle: bool = True,
        seed: int = 0,
        max_examples: int | None = None,
        shuffle_window: int = 0,
        period: int = 0,
        within: np.ndarray | None = None,
        indices: np.ndarray | None = None,
    ) -> None:
        """Prepare the columns of a split.

        Args:
            dataset: Where the examples come from.
            split: "train", "validation" or "test".
            batch_size: Examples per batch.
            max_lens: By stream, the most recent events that an example gets, at most the
                schema's max_len; a stream that is not named is left out.
            shuffle: Whether to shuffle without end, or to pass once in order.
            seed: Seed of the order and of the choice of `max_examples`.
            max_examples: Use only that many randomly chosen examples of the split; 8 bytes of
                memory for each.
            shuffle_window: Shuffle within windows of so many examples, which are read from storage
                in blocks (`order.WindowShuffle`); 0: shuffle the whole.
            period: Shuffle within periods of so many seconds, one after the other
                (`order.PeriodShuffle`); 0: shuffle the whole.
            within: Where the examples are stored that alone are used, int64, ascending; None: all
                of the split.
            indices: Which examples of every batch to gather, ascending; None: all.

        Raises:
            ValueError: On an unknown split or stream, a number out of range, or a split without
                examples that should be shuffled.
        """
        _check(dataset, split, {"batch_size": batch_size, "max_examples": max_examples}, max_lens)
        self._dataset, self._split, columns = dataset, split, dataset.columns
        schema = dataset.schema
        examples = columns.splits[split]
        self._columns = Columns(schema, examples, columns.users, columns.logs)
        self.batch_size = batch_size
        self._indices = np.arange(batch_size) if indices is None else indices
        self._max_lens = {s.name: max_lens[s.name] for s in schema.streams if s.name in max_lens}
        places = columns.places[split] if within is None else within
        chosen = subset(seed, len(places), max_examples)
        self.num_examples = len(places) if chosen is None else len(chosen)
        if shuffle and not self.num_examples:
            raise ValueError(f"split {split!r}: expected examples to shuffle, got none")
        self._places = places if chosen is None else places[chosen]
        self.weight = columns.statistics["weights"][split]["weight"]
        if chosen is not None or within is not None:
            self.weight = float(examples.weights[self._places].sum(dtype=np.float64))
        self._order = WholeShuffle(seed, self.num_examples) if shuffle else None
        if shuffle and shuffle_window:
            # Numbered as they are stored.
            self._places = None if chosen is None else np.sort(self._places)
            self._order = WindowShuffle(seed, self.num_examples, shuffle_window, self._read_ahead)
        if shuffle and period:
            self._order = PeriodShuffle(seed, examples.request_times[self._places] // period)
        content = {
            "dataset": dataset.identity,
            "split": split,
            "batch_size": batch_size,
            "max_lens": self._max_lens,
            "shuffle": shuffle,
            "seed": seed,
            "max_examples": max_examples,
            # Left out where it says nothing: checkpoints of earlier versions have none.
            **({"shuffle_window": shuffle_window} if shuffle and shuffle_window else {}),
            **({"period": period} if shuffle and period else {}),
            **({} if within is None else {"within": hashlib.sha256(within.tobytes()).hexdigest()}),
        }
        self.fingerprint = json_sha256(content)
        self._description = f"BatchSource({split}, {self.fingerprint[:16]})"

    def __len__(self) -> int:
        if self._order is not None:
            return ENDLESS
        return -(-self.num_examples // self.batch_size)

    def __getitem__(self, record_key: int) -> Batch:
        position = record_key * self.batch_size + np.arange(self.batch_size)
        if self._order is not None:
            numbers = self._order(position)[self._indices]
            real = np.ones(len(numbers), dtype=bool)
        elif 0 <= record_key < len(self):
            numbers = np.minimum(position[self._indices], self.num_examples - 1)
            real = position[self._indices] < self.num_examples
        else:
            raise IndexError(f"batch: expected an index below {len(self)}, got {record_key}")
        return self._columns.batch(self._stored(numbers), real, self._max_lens)

    def __repr__(self) -> str:
        return self._description

    def periods(self) -> list[tuple[int, int, np.ndarray]]:
        """Return number, index of the first batch, and places of the examples, of every period."""
        assert isinstance(self._order, PeriodShuffle), "the examples are not in periods"
        batches = (self._order.starts // self.batch_size).tolist()
        return [
            (number, batch, np.sort(self._stored(self._order.members(index))))
            for index, (number, batch) in enumerate(
                zip(self._order.numbers.tolist(), batches, strict=True)
            )
        ]

    def confirm(self) -> None:
        """Return when the columns that batches are made of are known to be good.

        Raises:
            DatasetError: If they are damaged, or have changed since they were opened.
        """
        self._dataset.columns.confirm()

    def _stored(self, numbers: np.ndarray) -> np.ndarray:
        return numbers if self._places is None else self._places[numbers]

    def _read_ahead(self, first: int, stop: int) -> None:
        first, last = self._stored(np.array([first, stop - 1])).tolist()
        self._dataset.columns.read_ahead(self._split, first, last + 1)


def make_train_iterator(
    source: BatchSource, *, num_threads: int = 1, prefetch: int = 4
) -> grain.DatasetIterator:
    """Iterate over the batches of a source, made ahead by threads.

    Of a source that does not shuffle, it makes the one pass.

    The iterator's `get_state` and `set_state` save and restore its position; store the source's
    `fingerprint` beside it, because a position alone fits any data.

    Args:
        source: The batches.
        num_threads: Threads that make batches; 0 makes them in the caller's thread. The
            batches and their order do not depend on it.
        prefetch: Batches that are kept ready.
    """
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=prefetch if num_threads else 0
    )
    return iter(grain.MapDataset.source(source).to_iter_dataset(options))


def _check(
    dataset: Dataset, split: str, numbers: dict[str, int | None], max_lens: dict[str, int]
) -> None:
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {list(SPLITS)}, got {split!r}")
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    known = dataset.schema.stream_by_name
    for name, length in max_lens.items():
        if name not in known:
            raise ValueError(f"max_lens: expected streams of {list(known)}, got {name!r}")
        if not 1 <= length <= known[name].max_len:
            raise ValueError(
                f"max_lens: stream {name!r}: expected 1 .. {known[name].max_len}, got {length}"
            )
