"""What a text stands for: blanks around it, texts for nothing, spellings of one value."""

import dataclasses

import pyarrow as pa
import pyarrow.compute as pc

# What str.strip removes.
BLANKS = "".join(chr(i) for i in range(0x3001) if chr(i).isspace())
# What pandas, R, MySQL, Hive and Spark write into a CSV cell where there is nothing; in any case.
MISSING = (
    *("nan", "-nan", "null", "none", "na", "n/a", "<na>", "nat", r"\n", '""', "''"),
    *("#n/a", "#n/a n/a", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
# What may be a value, but looks as if there were none.
DOUBTFUL = (
    *MISSING,
    *("-", "--", "?", ".", "nil", "undefined", "(null)", "[null]", "(none)", "[]", "{}", "()"),
    *("n.a.", "\u200b", "\u2060", "\ufeff", "\ufffd"),  # the four cannot be seen, or read
)


@dataclasses.dataclass(frozen=True)
class Absent:
    """Texts in place of a value. A blank text is one always.

    Attributes:
        missing: Texts that stand for nothing, in lower case.
        doubtful: Texts that look like it; as ids of users they are refused.
    """

    missing: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()

    @classmethod
    def of(cls, missing: tuple[str, ...] | None, *, parquet: bool) -> "Absent":
        """Return what a schema says of a table; None: of CSV the usual texts, of Parquet none."""
        if missing is None:
            return cls(() if parquet else MISSING, DOUBTFUL)
        return cls(tuple(text.strip().lower() for text in missing))


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def stripped(sql: str) -> str:
    """Return SQL for a text without the blanks around it, as `str.strip`."""
    first, last = f"left({sql}, 1)", f"right({sql}, 1)"
    # Almost no text begins or ends with a blank, and looking for all of them is slow.
    plain = f"{first} > ' ' AND {first} <= '~' AND {last} > ' ' AND {last} <= '~'"
    return f"CASE WHEN {plain} THEN {sql} ELSE trim({sql}, {literal(BLANKS)}) END"


def present(sql: str, missing: tuple[str, ...]) -> str:
    """Return SQL for a text without blanks around it; null where it stands for nothing."""
    text = stripped(sql)
    return f"CASE WHEN NOT {is_one_of(text, ('', *missing))} THEN {text} END"


def is_one_of(sql: str, texts: tuple[str, ...]) -> str:
    """Return SQL for whether a text is, in any case, one of some texts in lower case."""
    longest = max(map(len, texts), default=-1)
    listed = ", ".join(map(literal, texts)) or "NULL"
    return f"(length({sql}) <= {longest} AND lower({sql}) IN ({listed}))"


def looks_like_nothing(values: pa.Array) -> pa.Array:
    """Return whether texts stand for nothing by their looks."""
    known = pc.SetLookupOptions(value_set=pa.array(["", *DOUBTFUL]))
    return pc.call_function("is_in", [pc.call_function("utf8_lower", [values])], known)


# One after the other, these turn the spellings of a value into one. DuckDB and Arrow have RE2.
_SPELLINGS = (
    (r"[\s\pZ\x{200b}\x{2060}\x{feff}]+", ""),
    (r"^([+-]?[0-9]+)\.0*$", r"\1"),
    (r"^([+-]?)0+([0-9]+)$", r"\1\2"),
)


def spelling(values: pa.Array) -> pa.Array:
    """Return texts without what is often lost or added on the way from table to table.

    That is case, blanks, and of numbers `.0` and leading zeros.
    """
    found = pc.call_function("utf8_lower", [values])
    for pattern, replacement in _SPELLINGS:
        options = pc.ReplaceSubstringOptions(pattern, replacement)
        found = pc.call_function("replace_substring_regex", [found], options)
    return found


def spelling_sql(sql: str) -> str:
    """Return SQL for the same."""
    found = f"lower({sql})"
    for pattern, replacement in _SPELLINGS:
        found = f"regexp_replace({found}, {literal(pattern)}, {literal(replacement)}, 'g')"
    return found
