"""The slice of every batch that is a part's: which of the part's examples batch i has.

Of V parts with n_p examples, the largest with n, a batch of B has s = B / V places for each. Part p
gives batch i the positions

    floor(i s n_p / n), ..., floor((i + 1) s n_p / n) - 1

of its own endless epochs, at most s; the places that are left have weight 0. So all parts begin
their epochs together, every example comes once an epoch, and a batch has of each part in proportion
to what it holds. One part alone fills all places.
"""

import jax
import numpy as np

from kunlun_jax.data.batch import Batch, batch_shapes
from kunlun_jax.data.columns.mapped import MappedColumns
from kunlun_jax.data.reading.gather import Columns
from kunlun_jax.data.reading.order import Order, PeriodShuffle, WholeShuffle, WindowShuffle, subset
from kunlun_jax.data.schema import Schema


class Slice:
    """Some examples of a part, in order or shuffled, batch by batch.

    Attributes:
        num_examples: Examples in use.
        weight: Their weight.
        order: How they are shuffled; None: not at all.
    """

    def __init__(
        self,
        columns: MappedColumns,
        schema: Schema,
        split: str,
        *,
        seed: int,
        max_examples: int | None,
        within: np.ndarray | None,
    ) -> None:
        """Choose the examples.

        Args:
            columns: Of the part.
            schema: Of the data set.
            split: Their split.
            seed: Seed of the choice and of the order.
            max_examples: How many are drawn, if there are more; None: all.
            within: Where they are stored, int64, ascending; None: all of the split.
        """
        examples = columns.splits[split]
        self._mapped, self._split, self._seed = columns, split, seed
        self._columns = Columns(schema, examples, columns.users, columns.logs)
        places = columns.places[split] if within is None else within
        chosen = subset(seed, len(places), max_examples)
        self._is_drawn = chosen is not None
        self._places = places if chosen is None else places[chosen]
        self.num_examples = len(self._places)
        self.weight: float = columns.statistics["weights"][split]["weight"]
        if chosen is not None or within is not None:
            self.weight = float(examples.weights[self._places].sum(dtype=np.float64))
        self.order: Order | None = None

    def shuffle(self, window: int, period: int) -> None:
        """Shuffle the examples, at least one.

        Args:
            window: As of `BatchSource`.
            period: As of `BatchSource`.
        """
        seed, count = self._seed, self.num_examples
        if period:
            times = self._columns.examples.request_times[self._places]
            self.order = PeriodShuffle(seed, times // period)
        elif window:
            # Numbered as they are stored.
            drawn = self._places if self._is_drawn else None
            self._places = None if drawn is None else np.sort(drawn)
            self.order = WindowShuffle(seed, count, window, self._read_ahead)
        else:
            self.order = WholeShuffle(seed, count)

    def batch(
        self, number: int, size: int, longest: int, places: np.ndarray, max_lens: dict[str, int]
    ) -> Batch:
        """Gather what batch `number` has of the part.

        Args:
            number: Of the batch.
            size: Places of the slice.
            longest: Examples in use of the part with most of them.
            places: Those of the slice that are gathered, ascending.
            max_lens: By stream, the most recent events that an example gets.
        """
        if not self.num_examples:
            shapes = batch_shapes(self._columns.schema, max_lens, len(places))
            return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        if self.order is None:
            position = number * size + places
            numbers = np.minimum(position, self.num_examples - 1)
            real = position < self.num_examples
        else:
            first, stop = (at * size * self.num_examples // longest for at in (number, number + 1))
            taken = self.order(np.arange(first, stop))
            rest = np.full(size - len(taken), taken[-1] if len(taken) else 0)
            numbers, real = np.concatenate([taken, rest])[places], places < len(taken)
        return self._columns.batch(self.stored(numbers), real, max_lens)

    def stored(self, numbers: np.ndarray) -> np.ndarray:
        """Return where examples are stored, from their numbers among those in use."""
        return numbers if self._places is None else self._places[numbers]

    def confirm(self) -> None:
        """Return when the columns of the part are known to be good (`MappedColumns.confirm`)."""
        self._mapped.confirm()

    def _read_ahead(self, first: int, stop: int) -> None:
        first, last = self.stored(np.array([first, stop - 1])).tolist()
        self._mapped.read_ahead(self._split, first, last + 1)
