"""How many values of a hashed vocabulary look like another one."""

import json
import pathlib
from collections.abc import Iterable

from kunlun_jax.data.building import SCRATCH, publish
from kunlun_jax.data.hashing import expected_collision_rate
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.table_schema import Hashed
from kunlun_jax.data.own_data.vocabularies import hashed_sql

# Of values: how many there are, and how many look like another one.
Counts = tuple[int, int]


def count_collisions(engine: Engine, queries: Iterable[str], kind: Hashed) -> Counts:
    """Count the values of a vocabulary.

    Args:
        engine: DuckDB.
        queries: SQL of the values, as a column `value`.
        kind: The vocabulary.
    """
    look = hashed_sql("value", kind)
    if kind.num_hashes == 2:  # the sum of both knows no order
        low, high = f"({look} & {2**32 - 1})", f"({look} >> 32)"
        look = f"least({low}, {high}), greatest({low}, {high})"
    ((total, collided),) = engine.execute(
        "SELECT coalesce(sum(values), 0), coalesce(sum(values) FILTER (values > 1), 0) "
        f"FROM (SELECT {look}, count(DISTINCT value) AS values "
        f"FROM ({' UNION ALL '.join(queries)}) WHERE value IS NOT NULL GROUP BY ALL)"
    )
    return int(total), int(collided)


def counts_path(place: pathlib.Path, number: int) -> pathlib.Path:
    """Return where the counts of a vocabulary are kept during a build."""
    return place / SCRATCH / f"collisions-{number:03d}.json"


def store_counts(counts: Counts, place: pathlib.Path, number: int) -> None:
    """Keep the counts of a vocabulary; of one without values, none need be kept."""
    publish(counts_path(place, number), json.dumps(counts))


def describe_collisions(place: pathlib.Path, number: int, kind: Hashed) -> dict[str, int | float]:
    """Return what the manifest says of the values of a hashed vocabulary."""
    path = counts_path(place, number)
    values, collided = json.loads(path.read_text()) if path.exists() else (0, 0)
    return {
        "num_ids": kind.num_ids,
        "hashes": kind.num_hashes,
        "values": values,
        "collision_rate": collided / max(values, 1),
        "expected_collision_rate": expected_collision_rate(values, kind.num_ids, kind.num_hashes),
    }
