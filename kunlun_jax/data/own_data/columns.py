"""How each kind of column is read: an SQL expression, and what is refused.

Every text of a CSV file and every type of a Parquet file ends as one of: Unix seconds, an id as
text, a number, a label.
"""

import dataclasses
import re

from kunlun_jax.data.own_data.table_schema import Events, TableSchema
from kunlun_jax.data.own_data.texts import Absent, is_one_of, literal, present, stripped
from kunlun_jax.data.quality.consistency import LATEST_SECOND
from kunlun_jax.data.schema import EventId, SchemaError, SparseFeature

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGERS += tuple(f"U{name}" for name in INTEGERS)
FLOATS = ("FLOAT", "DOUBLE", "DECIMAL")
TEXT = ("VARCHAR", "UUID")
# Between the values of a cell with several: a character that text does not contain.
UNIT_SEPARATOR = "chr(31)"
_TYPES = {
    "varchar": "text",
    "blob": "binary",
    "float": "float32",
    "double": "float64",
    '"null"': "null",
    "tinyint": "int8",
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "hugeint": "int128",
    "utinyint": "uint8",
    "usmallint": "uint16",
    "uinteger": "uint32",
    "ubigint": "uint64",
    "interval": "duration",
}


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


def moment(name: str, kind: str, *, absent: Absent, latest: int) -> Column:
    """Read Unix seconds, or a timestamp; fractions of a second are cut off, towards the past.

    Args:
        name: Name of the column.
        kind: Its SQL type.
        absent: Texts that are no time.
        latest: Unix seconds, inclusive: anything later is refused.
    """
    column = quoted(name)
    expected = "Unix seconds or a timestamp with a time of day"
    if kind in INTEGERS:
        sql = f"TRY_CAST({column} AS BIGINT)"
    elif kind == "FLOAT":
        raise SchemaError(
            f"column {name!r}: expected {expected}, got type float32, which keeps today's seconds "
            "to the nearest 128 only; write 64 bits"
        )
    elif _is_float(kind):
        sql = f"TRY_CAST(floor({column}) AS BIGINT)"
    elif kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
        sql = _quotient(f"epoch_ns({column})", 10**9)
    elif kind.startswith("TIMESTAMP") and not kind.endswith("]"):
        sql = _quotient(f"epoch_us(TRY_CAST({column} AS TIMESTAMPTZ))", 10**6)
    elif kind in TEXT:
        sql = _second_of_text(_text(column, kind, absent.missing))
    else:
        raise _wrong_type(name, expected, kind)
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


def _quotient(sql: str, divisor: int) -> str:
    """Return SQL for a quotient rounded down; that of DuckDB is rounded towards 0."""
    return f"(({sql} - (({sql} % {divisor}) + {divisor}) % {divisor}) // {divisor})"


def _second_of_text(text: str) -> str:
    """Return SQL for the second of a number or a timestamp, without rounding a fraction up."""
    number = rf"regexp_full_match({text}, '[+-]?\d+(\.\d*)?')"
    whole = f"TRY_CAST(split_part({text}, '.', 1) AS BIGINT)"
    below = rf"regexp_matches({text}, '^-\d+\.0*[1-9]')"
    # A clock counts forward before 1970 too.
    clock = rf"regexp_replace({text}, '(:\d\d:\d\d)\.\d+', '\1')"
    return (
        f"CASE WHEN {number} THEN {whole} - CAST({below} AS BIGINT) "
        f"WHEN contains({text}, ':') THEN "
        f"{_quotient(f'epoch_us(TRY_CAST({clock} AS TIMESTAMPTZ))', 10**6)} END"
    )


def user_id(name: str, kind: str, *, absent: Absent) -> Column:
    """Read the id of a user, who has to be there."""
    read = identifier(name, kind, absent=absent)
    checks = [Check(name, "an id", f"({read.sql}) IS NULL")]
    if kind in TEXT and absent.doubtful:
        expected = "the id of a user (it looks like none; missing=() in the schema takes any text)"
        checks.append(Check(name, expected, is_one_of(f"({read.sql})", absent.doubtful)))
    return Column(read.sql, tuple(checks))


def identifier(name: str, kind: str, *, absent: Absent) -> Column:
    """Read an id as text without blanks around it; 5 and "5" are the same."""
    if not _is_id(kind):
        hint = "; a SparseFeature takes lists if max_values > 1" if kind.endswith("]") else ""
        raise _wrong_type(name, "ids (integers or text)", kind, hint)
    return Column(_text(quoted(name), kind, absent.missing))


def identifiers(name: str, kind: str, *, absent: Absent, separator: str, max_values: int) -> Column:
    """Read a list of ids, or text with separators, as one text; the elements that are nothing go.

    An element may be of every type that `identifier` takes.
    """
    column, expected = quoted(name), "a list of ids (integers or text), or text"
    element = re.sub(r"\[\d*\]$", "", kind)
    checks = []
    if element != kind and (_is_id(element) or element == '"NULL"'):
        cells = f"CAST({column} AS VARCHAR[])"
    elif kind in TEXT:
        cell = f"CAST({column} AS VARCHAR)"
        cells = f"string_split({cell}, {literal(separator)})"
        brackets = rf"regexp_full_match({stripped(cell)}, '\[.*[,\x22\x27].*\]')"
        checks = [Check(name, f"values with {separator!r} between them", brackets)]
    else:
        raise _wrong_type(name, expected, kind)
    if "\x1f" not in separator:
        inside = f"contains(CAST({column} AS VARCHAR), {UNIT_SEPARATOR})"
        checks.append(Check(name, "ids without the character U+001F", inside))
    values = f"list_transform({cells}, lambda x: {present('x', absent.missing)})"
    first = f"list_slice(list_filter({values}, lambda x: x IS NOT NULL), 1, {max_values})"
    return Column(f"nullif(array_to_string({first}, {UNIT_SEPARATOR}), '')", tuple(checks))


def number(name: str, kind: str, *, absent: Absent, required: bool = False) -> Column:
    """Read a number; NaN and nothing are missing values."""
    value = _number(name, kind, absent, "numbers")
    sql = f"TRY_CAST({value} AS FLOAT)"
    there = f"{_text(quoted(name), kind, absent.missing)} IS NOT NULL"
    wrong = f"({there} AND ({sql} IS NULL OR isinf({sql})))"
    checks = [Check(name, "a finite number of 32 bits", wrong)]
    if required:
        wrong = f"({sql} IS NULL OR isnan({sql}) OR {sql} < 0)"
        checks.append(Check(name, "a weight, >= 0", wrong))
    return Column(sql, tuple(checks))


def label(name: str, kind: str, *, absent: Absent) -> Column:
    """Read 0 or 1, or a boolean."""
    sql = _number(name, kind, absent, "labels of 0 or 1")
    if kind in TEXT:
        text = _text(quoted(name), kind, absent.missing)
        sql = f"coalesce({sql}, TRY_CAST(TRY_CAST({text} AS BOOLEAN) AS DOUBLE))"
    return Column(sql, (Check(name, "0 or 1", f"coalesce({sql}, -1) NOT IN (0, 1)"),))


def _number(name: str, kind: str, absent: Absent, expected: str) -> str:
    """Return SQL for a number of 64 bits, null where there is none."""
    if kind in TEXT:
        text = _text(quoted(name), kind, absent.missing)
        # DuckDB would read 1_000.
        return f"CASE WHEN NOT contains({text}, '_') THEN TRY_CAST({text} AS DOUBLE) END"
    if kind in (*INTEGERS, "BOOLEAN") or _is_float(kind):
        return f"TRY_CAST({quoted(name)} AS DOUBLE)"
    raise _wrong_type(name, expected, kind)


def _text(column: str, kind: str, missing: tuple[str, ...]) -> str:
    """Return SQL for a column as text; null where the text stands for nothing."""
    cast = f"CAST({column} AS VARCHAR)"
    return f"({present(column if kind == 'VARCHAR' else cast, missing)})" if kind in TEXT else cast


def _is_id(kind: str) -> bool:
    whole = re.fullmatch(r"DECIMAL\(\d+,0\)", kind) is not None
    return whole or kind in (*INTEGERS, *TEXT, "BOOLEAN")


def _is_float(kind: str) -> bool:
    return kind.startswith(FLOATS) and not kind.endswith("]")


def _wrong_type(name: str, expected: str, kind: str, hint: str = "") -> SchemaError:
    return SchemaError(f"column {name!r}: expected {expected}, got type {_type_shown(kind)}{hint}")


def _type_shown(kind: str) -> str:
    """Return an SQL type by the name that Arrow and NumPy give it."""
    element = re.sub(r"\[\d*\]$", "", kind)
    if element != kind:
        return f"list of {_type_shown(element)}"
    name = kind.split("(")[0].split(" WITH ")[0].lower()
    return _TYPES.get(name, name if name != "decimal" else kind.lower())


def impression_columns(
    schema: TableSchema, kinds: dict[str, str], absent: Absent, latest: int, *, labelled: bool
) -> dict[str, Column]:
    """Return the columns of the impressions as they are read, by the names they go by from here.

    Args:
        schema: What the columns mean.
        kinds: SQL type by column.
        absent: Texts in place of a value.
        latest: Unix seconds; a later time is refused.
        labelled: Whether labels and weights are read; otherwise all are 0 and 1.

    Returns:
        "time"; "l0", "l1", ... the labels; "w0", the weight; "d0", ... the dense and "s0", ... the
        sparse features, in the schema's order.
    """
    found = {"time": moment(schema.time, kinds[schema.time], absent=absent, latest=latest)}
    for i, name in enumerate(schema.labels):
        none = Column("CAST(0 AS FLOAT)")
        found[f"l{i}"] = label(name, kinds[name], absent=absent) if labelled else none
    found["w0"] = Column("CAST(1 AS FLOAT)")
    if schema.weight and labelled:
        found["w0"] = number(schema.weight, kinds[schema.weight], absent=absent, required=True)
    for i, feature in enumerate(schema.dense_features):
        found[f"d{i}"] = number(feature.name, kinds[feature.name], absent=absent)
    for i, feature in enumerate(schema.sparse_features):
        kind = kinds[feature.name]
        if is_list(feature):
            found[f"s{i}"] = identifiers(
                feature.name,
                kind,
                absent=absent,
                separator=schema.separator,
                max_values=feature.max_values,
            )
        else:
            found[f"s{i}"] = identifier(feature.name, kind, absent=absent)
    return found


def event_columns(
    events: Events, kinds: dict[str, str], absent: Absent, latest: int
) -> dict[str, Column]:
    """Return the columns of a table of events: "time", "d0", ... and "s0", ... as above."""
    stream = events.stream
    found = {"time": moment(events.time, kinds[events.time], absent=absent, latest=latest)}
    for i, feature in enumerate(stream.dense):
        found[f"d{i}"] = number(feature.name, kinds[feature.name], absent=absent)
    for i, feature in enumerate(stream.ids):
        found[f"s{i}"] = identifier(feature.name, kinds[feature.name], absent=absent)
    return found


def is_list(feature: SparseFeature | EventId) -> bool:
    """Whether a feature has several values."""
    return isinstance(feature, SparseFeature) and feature.max_values > 1
