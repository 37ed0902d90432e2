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
        ids: By event id feature, int32 [events]; 0 is out of vocabulary.
        dense: float32 [events, attributes], raw (neither log1p nor standardised).
    """

    offsets: np.ndarray
    times: np.ndarray
    ids: dict[str, np.ndarray]
    dense: np.ndarray


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one split, as columns.

    Attributes:
        users: int32 [n], dense index of the user.
        request_times: int64 [n], Unix seconds.
        labels: float32 [n, tasks].
        weights: float32 [n].
        dense: float32 [n, features], raw.
        sparse: By context feature, int32 [n, max_values], zeros behind the true length.
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
