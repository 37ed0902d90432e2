"""The synthetic data set shard by shard, of any size in the memory of one shard."""

import dataclasses
import functools

import numpy as np

from kunlun_jax.data.building.shards import ShardSource, shard_of_users
from kunlun_jax.data.sources import synthetic
from kunlun_jax.data.sources.synthetic_events import Options, make_logs
from kunlun_jax.data.tables import SPLITS, Shard, SourceTables

ROWS_AT_ONCE = 1 << 20


def shards(options: Options, num_shards: int) -> ShardSource:
    """Return the shards, each made from the seed alone; together they are what `load` makes."""
    make = functools.partial(_make, options, num_shards)
    return ShardSource(synthetic.make_schema(options), options.num_users, num_shards, make)


def _make(options: Options, num_shards: int, shard: int) -> Shard:
    """Make the logs of a shard's users, and the examples that are about them."""
    everyone = np.arange(options.num_users)
    users = everyone[shard_of_users(everyone, num_shards) == shard]
    logs = make_logs(options, users)
    rows = {split: _rows(options, split, num_shards, shard) for split in SPLITS}
    splits = {}
    for split, index in rows.items():
        examples = synthetic.examples_of(options, split, index, users=users, logs=logs)
        row = np.searchsorted(users, examples.users).astype(np.int32)
        splits[split] = dataclasses.replace(examples, users=row)
    schema = synthetic.make_schema(options)
    tables = SourceTables(schema, len(users), logs, splits, checksums={})
    return Shard(tables, users.astype(np.int32), rows)


def _rows(options: Options, split: str, num_shards: int, shard: int) -> np.ndarray:
    """Return the indices of the examples whose user is in the shard."""
    total = synthetic.num_examples(options, split)
    found = [np.empty(0, np.int64)]
    for start in range(0, total, ROWS_AT_ONCE):
        index = np.arange(start, min(start + ROWS_AT_ONCE, total))
        user = synthetic.user_of(options, split, index)
        found.append(index[shard_of_users(user, num_shards) == shard])
    return np.concatenate(found)
