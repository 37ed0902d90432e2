"""How many values of a hashed vocabulary look like another one."""

import json
import pathlib

import numpy as np
import pyarrow as pa

from kunlun_jax.data.building import SCRATCH, publish
from kunlun_jax.data.hashing import expected_collision_rate, hashed_sql, separate
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.table_schema import Hashed
from kunlun_jax.data.schema import Vocabulary


def counts_path(place: pathlib.Path, number: int) -> pathlib.Path:
    """Return the file, in a build, of the counts of a vocabulary: all values, and those that met.

    Args:
        place: Directory of the build.
        number: Of the vocabulary.
    """
    return place / SCRATCH / f"collisions-{number:03d}.json"


def count_collisions(engine: Engine, queries: list[str], kind: Hashed, path: pathlib.Path) -> None:
    """Count by DuckDB, unless that is done.

    Args:
        engine: DuckDB.
        queries: SQL of the values, as a column `value`.
        kind: The vocabulary.
        path: Where the counts go.
    """
    if path.exists():
        return
    look = hashed_sql("value", kind.num_ids, kind.num_hashes)
    if kind.num_hashes == 2:  # the sum of both knows no order
        low, high = f"({look} & {2**32 - 1})", f"({look} >> 32)"
        look = f"least({low}, {high}), greatest({low}, {high})"
    counted = engine.execute(
        "SELECT coalesce(sum(values), 0), coalesce(sum(values) FILTER (values > 1), 0) "
        f"FROM (SELECT {look}, count(DISTINCT value) AS values "
        f"FROM ({' UNION ALL '.join(queries)}) WHERE value IS NOT NULL GROUP BY ALL)"
    )
    publish(path, json.dumps([int(count) for count in counted[0]]))


def looks_of(ids: np.ndarray, vocabulary: Vocabulary) -> pa.Array:
    """Return one number for all that a model can tell of hashed ids, int64 [n].

    Args:
        ids: As `hashing.hashed_ids` makes them.
        vocabulary: What they belong to.
    """
    if vocabulary.hashes == 2:
        low, high = np.sort(separate(ids, vocabulary).astype(np.int64), axis=-1).T
        ids = low + (high << 32)
    return pa.array(ids.astype(np.int64))


def describe_collisions(kind: Hashed, path: pathlib.Path) -> dict[str, int | float]:
    """Return what the manifest says: how many values there are, and the share that met another.

    Args:
        kind: The vocabulary.
        path: Of the counts.
    """
    values, collided = json.loads(path.read_text())
    return {
        "num_ids": kind.num_ids,
        "hashes": kind.num_hashes,
        "values": values,
        "collision_rate": collided / max(values, 1),
        "expected_collision_rate": expected_collision_rate(values, kind.num_ids, kind.num_hashes),
    }
