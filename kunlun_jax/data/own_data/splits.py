"""Which split a row belongs to, as SQL and as NumPy."""

import dataclasses

import numpy as np

from kunlun_jax.data import counter_random
from kunlun_jax.data.own_data.table_schema import ByDate, ByTime, ByUser, TableSchema
from kunlun_jax.data.schema import SchemaError


def uniform_of_users(schema: TableSchema, numbers: np.ndarray) -> np.ndarray:
    """Return float64 [n] in [0, 1), by which `ByUser` deals users to splits."""
    seed = schema.split.seed if isinstance(schema.split, ByUser) else 0
    return counter_random.uniform(seed, "split of a user", numbers)


def places_of_bounds(split: ByTime, total: int) -> list[int]:
    """Return which of the requests, in order of time, are the first of validation and of test."""
    return [int(total * (1.0 - s)) for s in (split.validation + split.test, split.test)]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Where validation and test begin.

    Attributes:
        by: Column that decides: "time" (Unix seconds), or "unit" (`uniform_of_users`).
        starts: The least value of validation, and that of test.
    """

    by: str
    starts: tuple[float, float] | tuple[int, int]

    @classmethod
    def of(cls, split: ByTime | ByDate | ByUser, seconds: list[int]) -> "Bounds":
        """Return the bounds of a split; of `ByTime`, `seconds` are the starts."""
        if isinstance(split, ByUser):
            return cls("unit", (1.0 - split.validation - split.test, 1.0 - split.test))
        validation, test = split.seconds() if isinstance(split, ByDate) else seconds
        return cls("time", (validation, test))

    @property
    def sql(self) -> str:
        """The number of a row's split: 0 training, 1 validation, 2 test."""
        first, second = (f"WHEN {self.by} < {start}" for start in self.starts)
        return f"(CASE {first} THEN 0 {second} THEN 1 ELSE 2 END)"

    def number(self, values: np.ndarray) -> np.ndarray:
        """Return the same, int32 [n], given the column that decides."""
        return np.searchsorted(np.asarray(self.starts), values, side="right").astype(np.int32)


def empty_split(schema: TableSchema, name: str) -> SchemaError:
    """Return the error of a split without requests."""
    return SchemaError(f"{schema.split}: expected requests in {name}, got none")
