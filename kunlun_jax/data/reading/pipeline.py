"""Batches of fixed shape from a data set, through Grain.

The element that Grain sees is a batch: element i is a pure function of (data set, options, i),
gathered with NumPy. So the order of the data does not depend on threads, and a position is one
number. That number means something only for the same data and options: `fingerprint` says which.

Batch i is that of all processes together. Each gathers only the examples of its own devices, so
neither order nor position nor fingerprint depend on how many processes there are.
"""

import dataclasses
import threading

import grain
import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.building.standardize import standardize
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.reading.gather import Columns
from kunlun_jax.files import json_sha256

# Training has no end of its own; the caller decides about the number of steps.
ENDLESS = 2**40
CACHED_EPOCHS = 2


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
            max_examples: Use only that many randomly chosen examples of the split.
            indices: Which examples of every batch to gather, ascending; None: all.

        Raises:
            ValueError: On an unknown split or stream, a number out of range, or a split without
                examples that should be shuffled.
        """
        _check(dataset, split, {"batch_size": batch_size, "max_examples": max_examples}, max_lens)
        examples, schema = dataset.splits[split], dataset.schema
        standardized = standardize(examples.dense, schema.dense)
        self._columns = Columns(
            schema, dataclasses.replace(examples, dense=standardized), dataset.padded_logs
        )
        self.batch_size, self._shuffle, self._seed = batch_size, shuffle, seed
        self._indices = np.arange(batch_size) if indices is None else indices
        self._max_lens = {s.name: max_lens[s.name] for s in schema.streams if s.name in max_lens}
        self._subset = _subset(len(examples), max_examples, seed)
        self.num_examples = len(examples) if self._subset is None else len(self._subset)
        weights = examples.weights if self._subset is None else examples.weights[self._subset]
        self.weight = float(weights.sum(dtype=np.float64))
        if shuffle and not self.num_examples:
            raise ValueError(f"split {split!r}: expected examples to shuffle, got none")
        content = {
            "dataset": dataset.identity,
            "split": split,
            "batch_size": batch_size,
            "max_lens": self._max_lens,
            "shuffle": shuffle,
            "seed": seed,
            "max_examples": max_examples,
        }
        self.fingerprint = json_sha256(content)
        self._description = f"BatchSource({split}, {self.fingerprint[:16]})"
        self._orders: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        if self._shuffle:
            return ENDLESS
        return -(-self.num_examples // self.batch_size)

    def __getitem__(self, record_key: int) -> Batch:
        position = record_key * self.batch_size + self._indices
        if self._shuffle:
            return self._columns.batch(
                self._shuffled_rows(position), np.ones(len(position), dtype=bool), self._max_lens
            )
        if not 0 <= record_key < len(self):
            raise IndexError(f"batch: expected an index below {len(self)}, got {record_key}")
        real = position < self.num_examples
        position = np.minimum(position, self.num_examples - 1)
        rows = position if self._subset is None else self._subset[position]
        return self._columns.batch(rows, real, self._max_lens)

    def __repr__(self) -> str:
        return self._description

    def _shuffled_rows(self, position: np.ndarray) -> np.ndarray:
        epoch, inside = np.divmod(position, self.num_examples)
        rows = np.empty(len(position), dtype=np.int64)
        for number in range(int(epoch[0]), int(epoch[-1]) + 1):
            chosen = epoch == number
            rows[chosen] = self._order(number)[inside[chosen]]
        return rows if self._subset is None else self._subset[rows]

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                while len(self._orders) >= CACHED_EPOCHS:
                    del self._orders[max(self._orders, key=lambda cached: abs(cached - epoch))]
                self._orders[epoch] = _permutation(self._seed, epoch, self.num_examples, purpose=0)
            return self._orders[epoch]


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
    if split not in dataset.splits:
        raise ValueError(f"split: expected one of {list(dataset.splits)}, got {split!r}")
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


def _subset(count: int, max_examples: int | None, seed: int) -> np.ndarray | None:
    """Rows in use, ascending, or None for all of them."""
    if max_examples is None or max_examples >= count:
        return None
    return np.sort(_permutation(seed, 0, count, purpose=1)[:max_examples])


def _permutation(seed: int, epoch: int, count: int, *, purpose: int) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, epoch])))
    dtype = np.int32 if count <= np.iinfo(np.int32).max else np.int64
    return rng.permutation(np.arange(count, dtype=dtype))
