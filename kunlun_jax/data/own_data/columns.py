"""How each kind of column is read: an SQL expression, and what is refused.

Every text of a CSV file and every type of a Parquet file ends as one of: Unix seconds, an id as
text, a number, a label.
"""

import dataclasses

from kunlun_jax.data.consistency import LATEST_SECOND
from kunlun_jax.data.own_data.table_schema import Events, TableSchema
from kunlun_jax.data.schema import EventId, SchemaError, SparseFeature

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGERS += tuple(f"U{name}" for name in INTEGERS)
FLOATS = ("FLOAT", "DOUBLE", "DECIMAL")
TEXT = ("VARCHAR", "UUID")
# Between the values of a cell with several: a character that text does not contain.
UNIT_SEPARATOR = "chr(31)"
EPOCH = "epoch_us(TRY_CAST({} AS TIMESTAMPTZ)) // 1000000"


@dataclasses.dataclass(frozen=True)
class Check:
    """A condition that no row may fulfil.

    Attributes:
        column: Name of the column.
        expected: What should be there.
        bad: SQL condition of a bad row.
    """

    column: str
    expected: str
    bad: str


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as it is read.

    Attributes:
        sql: Expression of its value.
        checks: What is refused.
    """

    sql: str
    checks: tuple[Check, ...] = ()


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def moment(name: str, kind: str, *, latest: int) -> Column:
    """Read Unix seconds, or a timestamp, rounded down to the second.

    Args:
        name: Name of the column.
        kind: Its SQL type.
        latest: Unix seconds, inclusive: anything later is refused.
    """
    column = quoted(name)
    expected = "Unix seconds or a timestamp with a time of day"
    if kind in INTEGERS:
        sql = f"TRY_CAST({column} AS BIGINT)"
    elif _is_float(kind):
        sql = f"TRY_CAST(floor({column}) AS BIGINT)"
    elif kind.startswith("TIMESTAMP"):
        sql = EPOCH.format(column)
    elif kind in TEXT:
        number = rf"regexp_full_match(trim({column}), '[+-]?\d+(\.\d*)?')"
        clock = f"contains({column}, ':')"
        sql = (
            f"CASE WHEN {number} THEN TRY_CAST(floor(TRY_CAST({column} AS DOUBLE)) AS BIGINT) "
            f"WHEN {clock} THEN {EPOCH.format(column)} END"
        )
    else:
        raise SchemaError(f"column {name!r}: expected {expected}, got type {kind}")
    return Column(
        sql,
        (
            Check(name, expected, f"({sql}) IS NULL"),
            Check(
                name,
                f"Unix seconds (milliseconds have to be divided by 1000), |t| <= {LATEST_SECOND}",
                f"abs({sql}) > {LATEST_SECOND}",
            ),
            Check(name, "a time that is not in the future", f"({sql}) > {latest}"),
        ),
    )


def identifier(name: str, kind: str, *, required: bool = False) -> Column:
    """Read an id as text; 5 and "5" are the same."""
    if kind not in (*INTEGERS, *TEXT, "BOOLEAN") and not kind.startswith("ENUM"):
        raise SchemaError(f"column {name!r}: expected ids (integers or text), got type {kind}")
    sql = f"CAST({quoted(name)} AS VARCHAR)"
    return Column(sql, (Check(name, "an id", f"{sql} IS NULL"),) if required else ())


def identifiers(name: str, kind: str, *, separator: str, max_values: int) -> Column:
    """Read a list of ids, or text with separators, as one text."""
    if kind.endswith("[]"):
        cells = f"CAST({quoted(name)} AS VARCHAR[])"
    elif kind in TEXT:
        cells = f"string_split({quoted(name)}, {literal(separator)})"
    else:
        raise SchemaError(f"column {name!r}: expected a list or text, got type {kind}")
    first = f"list_slice({cells}, 1, {max_values})"
    return Column(f"nullif(array_to_string({first}, {UNIT_SEPARATOR}), '')")


def number(name: str, kind: str, *, required: bool = False) -> Column:
    """Read a number; NaN and nothing are missing values."""
    if kind not in (*INTEGERS, *TEXT, "BOOLEAN") and not _is_float(kind):
        raise SchemaError(f"column {name!r}: expected numbers, got type {kind}")
    column = quoted(name)
    sql = f"TRY_CAST(TRY_CAST({column} AS DOUBLE) AS FLOAT)"
    wrong = f"({column} IS NOT NULL AND ({sql} IS NULL OR isinf({sql})))"
    checks = [Check(name, "a finite number of 32 bits", wrong)]
    if required:
        wrong = f"({sql} IS NULL OR isnan({sql}) OR {sql} < 0)"
        checks.append(Check(name, "a weight, >= 0", wrong))
    return Column(sql, tuple(checks))


def label(name: str, kind: str) -> Column:
    """Read 0 or 1, or a boolean."""
    if kind not in (*INTEGERS, *TEXT, "BOOLEAN") and not _is_float(kind):
        raise SchemaError(f"column {name!r}: expected labels of 0 or 1, got type {kind}")
    column = quoted(name)
    sql = f"TRY_CAST({column} AS DOUBLE)"
    if kind in TEXT:
        sql = f"coalesce({sql}, TRY_CAST(TRY_CAST({column} AS BOOLEAN) AS DOUBLE))"
    return Column(sql, (Check(name, "0 or 1", f"coalesce({sql}, -1) NOT IN (0, 1)"),))


def _is_float(kind: str) -> bool:
    return kind.startswith(FLOATS) and not kind.endswith("[]")


def impression_columns(
    schema: TableSchema, kinds: dict[str, str], latest: int
) -> dict[str, Column]:
    """Return the columns of the impressions as they are read, by the names they go by from here.

    Args:
        schema: What the columns mean.
        kinds: SQL type by column.
        latest: Unix seconds; a later time is refused.

    Returns:
        "time"; "l0", "l1", ... the labels; "w0", the weight; "d0", ... the dense and "s0", ... the
        sparse features, in the schema's order.
    """
    found = {"time": moment(schema.time, kinds[schema.time], latest=latest)}
    found |= {f"l{i}": label(name, kinds[name]) for i, name in enumerate(schema.labels)}
    found["w0"] = Column("CAST(1 AS FLOAT)")
    if schema.weight:
        found["w0"] = number(schema.weight, kinds[schema.weight], required=True)
    for i, feature in enumerate(schema.dense_features):
        found[f"d{i}"] = number(feature.name, kinds[feature.name])
    for i, feature in enumerate(schema.sparse_features):
        kind = kinds[feature.name]
        if is_list(feature):
            found[f"s{i}"] = identifiers(
                feature.name, kind, separator=schema.separator, max_values=feature.max_values
            )
        else:
            found[f"s{i}"] = identifier(feature.name, kind)
    return found


def event_columns(events: Events, kinds: dict[str, str], latest: int) -> dict[str, Column]:
    """Return the columns of a table of events: "time", "d0", ... and "s0", ... as above."""
    stream = events.stream
    found = {"time": moment(events.time, kinds[events.time], latest=latest)}
    found |= {f"d{i}": number(f.name, kinds[f.name]) for i, f in enumerate(stream.dense)}
    found |= {f"s{i}": identifier(f.name, kinds[f.name]) for i, f in enumerate(stream.ids)}
    return found


def is_list(feature: SparseFeature | EventId) -> bool:
    """Whether a feature has several values."""
    return isinstance(feature, SparseFeature) and feature.max_values > 1
