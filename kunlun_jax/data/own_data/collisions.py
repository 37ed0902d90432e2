"""What there is to say of the values of a hashed vocabulary, of which only the ids are kept.

How many look like another one, and, since nothing else will show it, how many are spelled twice or
look like nothing.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from kunlun_jax.data.building.directory import SCRATCH
from kunlun_jax.data.hashing import expected_collision_rate
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.table_schema import Hashed
from kunlun_jax.data.own_data.texts import DOUBTFUL, is_one_of, spelling_sql
from kunlun_jax.data.own_data.vocabularies import hashed_sql
from kunlun_jax.files import publish


@dataclasses.dataclass(frozen=True)
class Counts:
    """Different values of a vocabulary, counted.

    Attributes:
        values: All.
        collided: Those whose ids another one has.
        respelled: Those that equal another one but for their spelling (`texts.spelling`).
        pair: Two of these, or none.
        nothing: Those that look like nothing (`texts.DOUBTFUL`).
    """

    values: int = 0
    collided: int = 0
    respelled: int = 0
    pair: tuple[str, ...] = ()
    nothing: tuple[str, ...] = ()


def count_values(engine: Engine, queries: Iterable[str], kind: Hashed) -> Counts:
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
    values = f"({' UNION ALL '.join(queries)}) WHERE value IS NOT NULL"
    ((total, collided),) = engine.execute(
        "SELECT coalesce(sum(values), 0), coalesce(sum(values) FILTER (values > 1), 0) "
        f"FROM (SELECT {look}, count(DISTINCT value) AS values FROM {values} GROUP BY ALL)"
    )
    respelled, pair = count_spellings(engine, values)
    nothing = engine.execute(
        f"SELECT DISTINCT value FROM {values} AND {is_one_of('value', DOUBTFUL)} ORDER BY value"
    )
    return Counts(int(total), int(collided), respelled, pair, tuple(v for (v,) in nothing))


def count_spellings(engine: Engine, values: str) -> tuple[int, tuple[str, ...]]:
    """Return how many different values equal another one but for their spelling, and two of them.

    Args:
        engine: DuckDB.
        values: SQL of what follows FROM, with a column `value`.
    """
    spelt = (
        f"(SELECT {spelling_sql('value')} AS spelling, count(DISTINCT value) AS values, "
        f"min(value) AS low, max(value) AS high FROM {values} GROUP BY spelling) WHERE values > 1"
    )
    ((respelled,),) = engine.execute(f"SELECT coalesce(sum(values), 0) FROM {spelt}")
    pair = engine.execute(f"SELECT low, high FROM {spelt} ORDER BY spelling LIMIT 1")
    return int(respelled), pair[0] if pair else ()


def counts_path(place: pathlib.Path, number: int) -> pathlib.Path:
    """Return where the counts of a vocabulary are kept during a build."""
    return place / SCRATCH / f"collisions-{number:03d}.json"


def store_counts(counts: Counts, place: pathlib.Path, number: int) -> None:
    """Keep the counts of a vocabulary; of one without values, none need be kept."""
    publish(counts_path(place, number), json.dumps(dataclasses.asdict(counts)))


def describe_collisions(place: pathlib.Path, number: int, kind: Hashed) -> dict[str, Any]:
    """Return what the manifest says of the values of a hashed vocabulary."""
    path = counts_path(place, number)
    stored = json.loads(path.read_text()) if path.exists() else {}
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    counts = Counts(**lists)
    return {
        "num_ids": kind.num_ids,
        "hashes": kind.num_hashes,
        "values": counts.values,
        "collision_rate": counts.collided / max(counts.values, 1),
        "expected_collision_rate": expected_collision_rate(
            counts.values, kind.num_ids, kind.num_hashes
        ),
        "respelled": counts.respelled,
        "pair": counts.pair,
        "nothing": counts.nothing,
    }
