"""How many values of a hashed vocabulary look like another one."""

import json
import pathlib

from kunlun_jax.data.building import publish
from kunlun_jax.data.hashing import expected_collision_rate, hashed_sql
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.table_schema import Hashed


def count_collisions(
    engine: Engine, queries: list[str], kind: Hashed, path: pathlib.Path
) -> dict[str, int | float]:
    """Return how many values there are, and the share of them that looks like another.

    Args:
        engine: DuckDB.
        queries: SQL of the values, as a column `value`.
        kind: The vocabulary.
        path: Where the counts are kept, for a build that goes on.
    """
    if not path.exists():
        look = hashed_sql("value", kind.num_ids, kind.num_hashes)
        if kind.num_hashes == 2:  # the sum of both knows no order
            low, high = f"({look} & {2**32 - 1})", f"({look} >> 32)"
            look = f"least({low}, {high}), greatest({low}, {high})"
        counted = engine.execute(
            "SELECT coalesce(sum(values), 0), coalesce(sum(values) FILTER (values > 1), 0) "
            f"FROM (SELECT {look}, count(*) AS values FROM ({' UNION '.join(queries)}) "
            "WHERE value IS NOT NULL GROUP BY ALL)"
        )
        publish(path, json.dumps([int(count) for count in counted[0]]))
    values, collided = json.loads(path.read_text())
    return {
        "num_ids": kind.num_ids,
        "hashes": kind.num_hashes,
        "values": values,
        "collision_rate": collided / max(values, 1),
        "expected_collision_rate": expected_collision_rate(values, kind.num_ids, kind.num_hashes),
    }
