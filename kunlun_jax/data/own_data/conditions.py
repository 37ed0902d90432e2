"""The SQL conditions of a schema, `where`: tested before rows are read, and explained where not."""

import json
import re
from collections.abc import Iterator
from typing import Any

from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.messages import clipped, names_shown
from kunlun_jax.data.own_data.texts import literal
from kunlun_jax.data.schema import SchemaError

CLAUSE_SHOWN = 90
# Rows without an answer that are looked at, to find the one that cannot be asked.
ROWS_TRIED = 100
# What depends on the clock, the session or the machine, besides all that DuckDB calls volatile.
_OUTSIDE = re.compile(
    r"(get_)?current_\w+|(transaction|statement|clock)_timestamp|local(time|timestamp)|now|today|age|"
    r"(session_)?user|get_?env|getvariable|in_search_path|txid_current|version|pg_\w+"
)
_REASONS = (
    (r'Referenced (?:column|table) "(.+?)" not found', "no column '{}'"),
    (r"Function with name (\S+) does not exist", "no function '{}'"),
    (r"Cannot compare values of type VARCHAR", "a text is compared with a number: CAST the column"),
    (r"Cannot compare|No function matches|Cannot mix", "values of types that do not go together"),
    (r"aggregates|window functions", "one row has to decide, not several"),
    (r"^Parser Error", "not SQL, or not complete"),
)


def check_condition(engine: Engine, rows: str, where: str, names: list[str]) -> None:
    """Test that a condition is true or false of rows with these columns; none is read.

    Args:
        engine: Answers.
        rows: SQL of the rows.
        where: The condition.
        names: Their columns.

    Raises:
        SchemaError: If it is not, or does not depend on the row alone, as `random() < 0.5`; quotes
            it.
    """
    expected = f"expected a condition on the columns {names_shown(names)}"
    try:
        engine.execute(f"SELECT 1 FROM {rows} WHERE (\n{where}\n) LIMIT 0")
        found = engine.execute(f"DESCRIBE SELECT (\n{where}\n) FROM {rows}")
    except SchemaError as error:
        raise SchemaError(f"{_shown(where)}: {_reason(error)}; {expected}") from error
    if len(found) != 1 or found[0][1] != "BOOLEAN":
        got = ", ".join(row[1] for row in found)
        raise SchemaError(f"{_shown(where)}: neither true nor false, but {got}; {expected}")
    for outside in _outside_of_row(engine, where, names):
        raise SchemaError(
            f"{_shown(where)}: {clipped(outside, 40)} does not depend on the row alone; {expected}"
        )


def _outside_of_row(engine: Engine, where: str, names: list[str]) -> Iterator[str]:
    """Yield what in a condition may differ from build to build of the same row."""
    query = literal(f"SELECT (\n{where}\n)")
    ((tree,),) = engine.execute(f"SELECT CAST(json_serialize_sql({query}) AS VARCHAR)")
    volatile = engine.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
    )
    known = {name.lower() for name in names}
    for node in _nodes(json.loads(tree)):
        function = str(node.get("function_name", "")).lower()
        if (function,) in volatile or _OUTSIDE.fullmatch(function):
            yield f"{function}()"
        if node.get("class") == "SUBQUERY":
            yield "a query of its own"
        if node.get("class") == "COLUMN_REF":  # `current_date` is one, unless a column is called so
            name = node["column_names"][-1].lower()
            if name not in known and _OUTSIDE.fullmatch(name):
                yield name


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every dictionary of a tree of dictionaries and lists."""
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def explain_condition(engine: Engine, rows: str, where: str) -> None:
    """Find the row of which a condition that fits the columns is neither true nor false.

    Args:
        engine: Answers.
        rows: SQL of the rows.
        where: The condition.

    Raises:
        SchemaError: If there is one; quotes the condition and names the row.
    """
    try:
        engine.execute(f"SELECT count_if((\n{where}\n)) FROM {rows}")
        return  # something else is wrong
    except SchemaError as error:
        cause = error
    engine.execute("SET preserve_insertion_order = true")  # rows are numbered
    numbered = f"(SELECT *, row_number() OVER () AS place_of_row FROM {rows})"
    suspects = engine.execute(
        f"SELECT place_of_row FROM {numbered} WHERE TRY((\n{where}\n)) IS NULL "
        f"ORDER BY 1 LIMIT {ROWS_TRIED}"
    )
    for (place,) in suspects:
        one = f"(SELECT * FROM {numbered} WHERE place_of_row = {place})"
        try:
            engine.execute(f"SELECT count_if((\n{where}\n)) FROM {one}")
        except SchemaError:
            row = f"row {place} (the first row of data is 1)"
            break
    else:
        row = "some row"
    raise SchemaError(
        f"{_shown(where)}: expected a condition that can be asked of every row, got a value in "
        f"{row} that cannot be converted; TRY_CAST gives nothing there"
    ) from cause


def _shown(where: str) -> str:
    """Return the clause in quotes; a text in it keeps its own."""
    return f"where {json.dumps(clipped(where, CLAUSE_SHOWN), ensure_ascii=False)}"


def _reason(error: SchemaError) -> str:
    """Say in the schema's words why an engine does not take a condition."""
    message = str(error.__cause__)
    for pattern, reason in _REASONS:
        found = re.search(pattern, message)
        if found:
            return reason.format(*(clipped(group, 40) for group in found.groups()))
    return "it does not fit them"
