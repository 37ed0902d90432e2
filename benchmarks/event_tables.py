"""Tables of millions of impressions and events, made of hashes of row numbers, and their schema."""

import pathlib
from typing import Any

import duckdb

# The row numbers of impressions begin here, those of events at 0.
FIRST_IMPRESSION = 10**12
LABEL = "CAST(hash(i + 3) % 10 < 2 AS INTEGER)"
SCHEMA = """
from kunlun_jax.data import DenseFeature
from kunlun_jax.data.own_data import Built, ByTime, Events, TableSchema

SCHEMA = TableSchema(
    name="scale",
    sparse=("item", "category"),
    candidate=("item", "category"),
    streams=(
        Events("view", ids=("item", "category"), dense=(DenseFeature("amount", log1p=True),)),
    ),
    vocabularies={"item": Built(min_count=2)},
    split=ByTime(HELD_OUT, HELD_OUT),
)
"""


def make_tables(
    directory: pathlib.Path, kind: str, events: int, *, held_out: float = 0.1
) -> list[str]:
    """Write impressions and events; returns the arguments that build a data set of them.

    Args:
        directory: Where they go.
        kind: csv or parquet.
        events: How many; impressions are a tenth of them.
        held_out: Share of the impressions that is for validation, and as much for test.
    """
    items = 100_000
    (directory / "schema.py").write_text(SCHEMA.replace("HELD_OUT", str(held_out)))
    # Popular items and lively users: powers of uniform numbers.
    common = (
        f"{_user(events)} AS user, 1700000000 + hash(i + 7) % 31536000 AS time, "
        f"CAST(floor(pow((hash(i + 1) % 1000003) / 1000003.0, 3) * {items}) AS BIGINT) AS item, "
        "'c' || (item % 300) AS category"
    )
    tables = {
        "impressions": (events // 10, FIRST_IMPRESSION, f"{LABEL} AS label"),
        "events": (events, 0, "round((hash(i + 5) % 10000) / 100.0, 2) AS amount"),
    }
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        for name, (count, first, extra) in tables.items():
            connection.execute(
                f"COPY (SELECT {common}, {extra} FROM range({first}, {first + count}) AS r(i)) "
                f"TO '{directory / f'{name}.{kind}'}' (FORMAT {kind})"
            )
    return [
        f"--schema={directory / 'schema.py'}",
        f"--impressions={directory / f'impressions.{kind}'}",
        f"--events={directory / f'events.{kind}'}",
    ]


def expected_counts(events: int) -> dict[str, int]:
    """Count what is in those tables, by the formulas they are made of."""
    impressions = f"range({FIRST_IMPRESSION}, {FIRST_IMPRESSION + events // 10}) AS r(i)"
    views = f"(SELECT {_user(events)} AS user FROM range({events}) AS r(i))"
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        connection.execute(
            f"CREATE TABLE users AS SELECT DISTINCT {_user(events)} AS user FROM {impressions}"
        )
        counted = connection.execute(
            f"SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM {impressions}), "
            f"(SELECT sum({LABEL}) FROM {impressions}), "
            f"(SELECT count(*) FROM {views} JOIN users USING (user))"
        ).fetchall()
    return dict(
        zip(("users", "examples", "positives", "events"), map(int, counted[0]), strict=True)
    )


def found_counts(manifest: dict[str, Any]) -> dict[str, int]:
    """Return the same numbers of a data set."""
    counts, rates = manifest["counts"], manifest["label_rates"]
    rows = counts["rows"]
    positives = sum(round(rate * rows[s]) for s in rows for rate in rates[s].values())
    examples, events = sum(rows.values()), sum(counts["events"].values())
    return {
        "users": counts["users"],
        "examples": examples,
        "positives": positives,
        "events": events,
    }


def _user(events: int) -> str:
    """Return SQL for the user of row i."""
    rank = f"pow((hash(i) % 1000003) / 1000003.0, 2) * {max(events // 100, 1)}"
    return f"'u' || CAST(floor({rank}) AS BIGINT)"
