"""Batches of fixed shape from a data set, through Grain.

The element that Grain sees is a batch: element i is a pure function of (data set, options, i),
gathered with NumPy. So the order of the data does not depend on threads, and a position is one
number. That number means something only for the same data and options: `fingerprint` says which.

Batch i is that of all processes together. Each gathers only the examples of its own devices, so
neither order nor position nor fingerprint depend on how many processes there are. Of a data set in
several parts, a batch is one slice of each (`slices.py`), one behind the other.
"""

import hashlib
import math

import grain
import jax
import numpy as np

from kunlun_jax.data.batch import Batch
from kunlun_jax.data.dataset import Dataset
from kunlun_jax.data.parts import shares
from kunlun_jax.data.reading.order import PeriodShuffle, part_seed
from kunlun_jax.data.reading.slices import Slice
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
        num_examples: Examples in use, of all parts.
        epoch_size: Places of an epoch: the examples, and what fills up the smaller parts.
        weights: By part of which examples are gathered, the weight of those in use.
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
            max_examples: Use only that many randomly chosen examples of the split, of each part in
                proportion; 8 bytes of memory for each.
            shuffle_window: Shuffle within windows of so many examples of all parts, which are read
                from storage in blocks (`order.WindowShuffle`); 0: shuffle the whole.
            period: Shuffle within periods of so many seconds, one after the other
                (`order.PeriodShuffle`); 0: shuffle the whole.
            within: Where the examples are stored that alone are used, int64, ascending; None: all
                of the split.
            indices: Which examples of every batch to gather, ascending; None: all. Their parts are
                open.

        Raises:
            ValueError: On an unknown split or stream, a number out of range, a split without
                examples that should be shuffled, a batch that the parts do not divide, or periods
                of several parts.
        """
        parts = dataset.num_parts
        _check(dataset, split, {"batch_size": batch_size, "max_examples": max_examples}, max_lens)
        _check_parts(parts, batch_size, period)
        assert within is None or parts == 1, "places are those of one part"
        streams = dataset.schema.streams
        self._max_lens = {s.name: max_lens[s.name] for s in streams if s.name in max_lens}
        self.batch_size, self._size = batch_size, batch_size // parts
        counts = dataset.examples_by_part(split) if within is None else [len(within)]
        counts = shares(min(sum(counts), max_examples or sum(counts)), counts)
        self.num_examples, self._longest = sum(counts), max(counts)
        self.epoch_size = parts * self._longest
        if shuffle and not self.num_examples:
            raise ValueError(f"split {split!r}: expected examples to shuffle, got none")
        self._slices: dict[int, tuple[Slice, np.ndarray]] = {}
        part_of, places = np.divmod(
            np.arange(batch_size) if indices is None else indices, self._size
        )
        for part in np.unique(part_of).tolist():
            found = Slice(
                dataset.parts[part],
                dataset.schema,
                split,
                seed=part_seed(seed, part, parts),
                max_examples=counts[part],
                within=within,
            )
            if shuffle and found.num_examples:
                found.shuffle(-(-shuffle_window // parts), period)
            self._slices[part] = found, places[part_of == part]
        self.weights = {part: found.weight for part, (found, _) in self._slices.items()}
        self._is_endless = shuffle
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
            **({"parts": parts} if parts > 1 else {}),
        }
        self.fingerprint = json_sha256(content)
        self._description = f"BatchSource({split}, {self.fingerprint[:16]})"

    @property
    def weight(self) -> float:
        """Weight of the examples in use of the parts of which any are gathered."""
        return math.fsum(self.weights.values())

    def __len__(self) -> int:
        return ENDLESS if self._is_endless else -(-self._longest // self._size)

    def __getitem__(self, record_key: int) -> Batch:
        if not (self._is_endless or 0 <= record_key < len(self)):
            raise IndexError(f"batch: expected an index below {len(self)}, got {record_key}")
        batches = [
            found.batch(record_key, self._size, self._longest, places, self._max_lens)
            for found, places in self._slices.values()
        ]
        if len(batches) == 1:
            return batches[0]
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *batches)

    def __repr__(self) -> str:
        return self._description

    def periods(self) -> list[tuple[int, int, np.ndarray]]:
        """Return number, index of the first batch, and places of the examples, of every period."""
        ((found, _),) = self._slices.values()
        order = found.order
        assert isinstance(order, PeriodShuffle), "the examples are not in periods"
        batches = (order.starts // self.batch_size).tolist()
        return [
            (number, batch, np.sort(found.stored(order.members(index))))
            for index, (number, batch) in enumerate(
                zip(order.numbers.tolist(), batches, strict=True)
            )
        ]

    def confirm(self) -> None:
        """Return when the columns that batches are made of are known to be good.

        Raises:
            DatasetError: If they are damaged, or have changed since they were opened.
        """
        for found, _ in self._slices.values():
            found.confirm()


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


def _check_parts(parts: int, batch_size: int, period: int) -> None:
    if batch_size % parts:
        raise ValueError(f"batch_size: expected a multiple of {parts} (parts), got {batch_size}")
    if period and parts > 1:
        raise ValueError(f"period_hours: expected data in one part, got parts {parts}")


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
