"""What a source hands to the build: event logs once per user, and examples that point into them."""

import dataclasses

import numpy as np

from kunlun_jax.data.schema import Schema

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class EventLog:
    """All events of one stream, user by user, each user's from oldest to newest.

    Attributes:
        offsets: int64 [users + 1]; the events of user u are offsets[u] : offsets[u + 1].
        times: int64 [events], Unix seconds; ascending within a user.
        ids: By event id feature, int32 [events]; 0 is out of vocabulary. Under double hashing,
            pairs as int64 (`hashing.py`).
        dense: float32 [events, attributes], raw (neither log1p nor standardised).
    """

    offsets: np.ndarray
    times: np.ndarray
    ids: dict[str, np.ndarray]
    dense: np.ndarray

    def take(self, users: np.ndarray) -> "EventLog":
        """Return the log of the given users alone, who are numbered anew in this order."""
        sizes = self.offsets[users + 1] - self.offsets[users]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(self.offsets[users] - offsets[:-1], sizes) + np.arange(offsets[-1])
        ids = {name: column[rows] for name, column in self.ids.items()}
        return EventLog(offsets, self.times[rows], ids, self.dense[rows])


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one split, as columns.

    Attributes:
        users: int32 [n], dense index of the user.
        request_times: int64 [n], Unix seconds.
        labels: float32 [n, tasks].
        weights: float32 [n].
        dense: float32 [n, features], raw.
        sparse: By context feature, int32 [n, max_values], zeros behind the true length; under
            double hashing likewise int64.
        sparse_lengths: By context feature, int32 [n].
        ends: By stream, int32 [n]: how many events of the user's log happened strictly
            before the request. The history is log[max(0, end - max_len) : end].
    """

    users: np.ndarray
    request_times: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    dense: np.ndarray
    sparse: dict[str, np.ndarray]
    sparse_lengths: dict[str, np.ndarray]
    ends: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> "Examples":
        """Return the given rows (indices or a mask)."""

        def take(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: column[rows] for name, column in columns.items()}

        return Examples(
            users=self.users[rows],
            request_times=self.request_times[rows],
            labels=self.labels[rows],
            weights=self.weights[rows],
            dense=self.dense[rows],
            sparse=take(self.sparse),
            sparse_lengths=take(self.sparse_lengths),
            ends=take(self.ends),
        )


@dataclasses.dataclass(frozen=True)
class SourceTables:
    """A whole data set in memory, as a source produced it.

    Attributes:
        schema: The schema, dense features not yet given their mean and std.
        num_users: Users; every log has num_users + 1 offsets.
        logs: Event logs by stream.
        splits: Examples by split.
        checksums: SHA-256 of every file that was read, by file name.
    """

    schema: Schema
    num_users: int
    logs: dict[str, EventLog]
    splits: dict[str, Examples]
    checksums: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of a data set that one file holds: some users with all that is theirs.

    Attributes:
        tables: Logs and examples of these users, who are numbered 0, 1, ... in the shard.
        users: int32 [users], their numbers in the data set, ascending.
        rows: By split, int64 [n], the index of every example in its split.
    """

    tables: SourceTables
    users: np.ndarray
    rows: dict[str, np.ndarray]
