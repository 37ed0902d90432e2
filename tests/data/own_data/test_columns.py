"""What every type and spelling of a cell is read as, or in which words it is refused."""

import datetime
import decimal
import math
import re

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kunlun_jax.data import SchemaError
from kunlun_jax.data.own_data import columns, texts
from kunlun_jax.data.own_data.engine import Engine
from kunlun_jax.data.own_data.headers import duration_types
from kunlun_jax.data.own_data.sources import layout_of
from kunlun_jax.data.own_data.texts import MISSING, Absent

CSV, PARQUET = (Absent.of(None, parquet=parquet) for parquet in (False, True))
LATEST = 2_000_000_000
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def engine():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def read(engine, read_column, table, name="x", **options):
    """Return the values of a column, and for each of its checks the rows that it refuses."""
    engine.register("given", table)
    kind = engine.execute(f"DESCRIBE SELECT {name} FROM given").fetchall()[0][1]
    return evaluate(engine, read_column(name, kind, **options), "given")


def evaluate(engine, column, relation):
    values = [row[0] for row in engine.execute(f"SELECT {column.sql} FROM {relation}").fetchall()]
    refused = {
        i
        for check in column.checks
        for i, row in enumerate(
            engine.execute(f"SELECT coalesce({check.bad}, false) FROM {relation}").fetchall()
        )
        if row[0]
    }
    return values, refused


def texts_of(values):
    return pa.table({"x": pa.array(values, pa.string())})


# Ids.


@QUICK
@given(st.lists(st.text(), min_size=1))
@example(["  7", "\xa07\t", "\u3000", "x y", "ä ", "\x1f", "Null", r"\n", "NONE ", "７"])
def test_an_id_is_the_text_without_blanks_around_it(engine, given_texts):
    kept = [t.strip() or None for t in given_texts]
    assert read(engine, columns.identifier, texts_of(given_texts), absent=PARQUET)[0] == kept
    kept = [None if t is not None and t.lower() in MISSING else t for t in kept]
    assert read(engine, columns.identifier, texts_of(given_texts), absent=CSV)[0] == kept


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "NULL", "None", r"\N", "<NA>", "#N/A", "", " ", '""']
)
def test_texts_for_nothing_are_no_ids_of_csv_unless_the_schema_says_so(engine, text):
    cells = texts_of([text, f"{text}x"])
    assert read(engine, columns.identifier, cells, absent=CSV)[0] == [None, f"{text}x".strip()]
    own = Absent.of(("-",), parquet=False)
    values, _ = read(engine, columns.identifier, texts_of([text, "-"]), absent=own)
    assert values == [text.strip() or None, None]


@pytest.mark.parametrize("absent", [CSV, PARQUET])
@pytest.mark.parametrize("text", ["nan", "NULL", r"\N", "-", "undefined", " ", ""])
def test_a_user_that_looks_like_none_is_refused(engine, absent, text):
    column = columns.user_id("x", "VARCHAR", absent=absent)
    engine.register("given", texts_of(["7", text]))
    assert evaluate(engine, column, "given")[1] == {1}
    anything = columns.user_id("x", "VARCHAR", absent=Absent.of((), parquet=True))
    assert evaluate(engine, anything, "given")[1] == ({1} if not text.strip() else set())


ID_TYPES = {
    "int8": (pa.array([7, None], pa.int8()), "7"),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), str(2**64 - 1)),
    "decimal without fraction": (
        pa.array([decimal.Decimal(10**30), None], pa.decimal128(38, 0)),
        str(10**30),
    ),
    "dictionary": (pa.array([" 7", None]).dictionary_encode(), "7"),
    "large text": (pa.array(["7 ", None], pa.large_string()), "7"),
    "boolean": (pa.array([True, None]), "true"),
}
OTHER_TYPES = {
    "float32": (pa.array([7.0], pa.float32()), "float32"),
    "float64": (pa.array([7.0]), "float64"),
    "decimal": (pa.array([decimal.Decimal("7.50")]), "decimal(3,2)"),
    "timestamp": (pa.array([0], pa.timestamp("us")), "timestamp"),
    "date": (pa.array([0], pa.date32()), "date"),
    "binary": (pa.array([b"7"]), "binary"),
    "struct": (pa.array([{"id": 7}]), "struct"),
    "map": (pa.array([[("a", 7)]], pa.map_(pa.string(), pa.int64())), "map"),
    "list of lists": (pa.array([[[7]]]), "list of list of int64"),
}


def written(engine, tmp_path, array):
    """Return the file of a column, and its SQL type."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": array}), path)
    relation = f"read_parquet('{path}')"
    return relation, engine.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()[0][1]


def list_of(array, *, size=None):
    """Return a list of each element; of a size, all lists have it."""
    if size:
        return pa.FixedSizeListArray.from_arrays(pa.concat_arrays([array] * size), size)
    return pa.ListArray.from_arrays(pa.array(range(len(array) + 1), pa.int32()), array)


@pytest.mark.parametrize("kind", ID_TYPES)
def test_types_of_ids_alone_and_in_lists(engine, tmp_path, kind):
    array, expected = ID_TYPES[kind]
    relation, found = written(engine, tmp_path, array)
    column = columns.identifier("x", found, absent=PARQUET)
    assert evaluate(engine, column, relation) == ([expected, None], set())
    for lists in (list_of(array), list_of(array, size=1)):
        relation, found = written(engine, tmp_path, lists)
        column = columns.identifiers("x", found, absent=PARQUET, separator="|", max_values=3)
        assert evaluate(engine, column, relation) == ([expected, None], set())


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_types_that_are_no_ids_are_refused_alone_and_in_lists(engine, tmp_path, kind):
    array, shown = OTHER_TYPES[kind]
    _, found = written(engine, tmp_path, array)
    with pytest.raises(SchemaError, match=r"^column 'x': expected ids .*, got type ") as error:
        columns.identifier("x", found, absent=PARQUET)
    assert str(error.value).split("; ")[0].endswith(f"got type {shown}")
    _, found = written(engine, tmp_path, list_of(array))
    with pytest.raises(SchemaError, match=r"^column 'x': expected a list of ids .*, got type "):
        columns.identifiers("x", found, absent=PARQUET, separator="|", max_values=3)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_duration_is_not_the_integer_that_parquet_has_for_it(tmp_path, depth):
    array = pa.array([7], pa.duration("ms"))
    for _ in range(depth):
        array = list_of(array)
    pq.write_table(pa.table({"user": ["u"], "x": array, "y": [7]}), tmp_path / "x.parquet")
    assert duration_types(tmp_path / "x.parquet") == {1: "INTERVAL" + "[]" * depth}
    engine = Engine(tmp_path, threads=1, memory_gb=1.0)
    try:
        layout = layout_of(engine, tmp_path / "x.parquet")
    finally:
        engine.close()
    shown = "list of " * depth + "duration"
    for refuse in (
        lambda: columns.identifier("x", layout.types["x"], absent=PARQUET),
        lambda: columns.number("x", layout.types["x"], absent=PARQUET),
        lambda: columns.moment("x", layout.types["x"], absent=PARQUET, latest=LATEST),
    ):
        with pytest.raises(SchemaError, match=f"got type {shown}"):
            refuse()
    assert layout.types["y"] == "BIGINT"


def test_a_refusal_of_a_large_type_is_short(engine, tmp_path):
    fields = {f"a_rather_long_name_{i}": 0 for i in range(50)}
    _, found = written(engine, tmp_path, pa.array([fields]))
    for refuse in (
        lambda: columns.identifier("x", found, absent=PARQUET),
        lambda: columns.number("x", found, absent=PARQUET),
        lambda: columns.label("x", found, absent=PARQUET),
        lambda: columns.moment("x", found, absent=PARQUET, latest=LATEST),
    ):
        with pytest.raises(SchemaError) as error:
            refuse()
        assert len(str(error.value)) < 250


@QUICK
@given(st.lists(st.sampled_from(["", " ", "1", " 2 ", "x y", "NULL", "a"]), max_size=6))
def test_cells_of_several_values(engine, parts):
    options = {"separator": "|", "max_values": 3}
    for absent in (CSV, PARQUET):
        kept = [p.strip() for p in parts if p.strip() and p.lower() not in absent.missing]
        expected = "\x1f".join(kept[:3]) or None
        for cell in (texts_of(["|".join(parts)]), pa.table({"x": [[*parts, None]]})):
            values, refused = read(engine, columns.identifiers, cell, absent=absent, **options)
            assert (values, refused) == ([expected], set())


@pytest.mark.parametrize("cell", ["['a', 'b']", '["a","b"]', " [1, 2] ", "a\x1fb"])
def test_text_of_a_list_is_refused(engine, cell):
    options = {"absent": CSV, "separator": "|", "max_values": 3}
    assert read(engine, columns.identifiers, texts_of(["[a]|[b]", cell]), **options)[1] == {1}


# Numbers and labels.

NUMBERS = {
    **{"7": 7.0, " 7 ": 7.0, "1e3": 1000.0, "-.5": -0.5, "+2.": 2.0},
    **dict.fromkeys(["", " ", "nan", "NULL", "None", r"\N", "N/A"]),
}


def test_numbers(engine):
    values, refused = read(engine, columns.number, texts_of(list(NUMBERS)), absent=CSV)
    assert (values, refused) == (list(NUMBERS.values()), set())
    wrong = ["-", "1,5", "1 000", "1_000", "0x10", "inf", "$5", "٣", "1e39", "7%"]
    assert read(engine, columns.number, texts_of(wrong), absent=CSV)[1] == set(range(len(wrong)))
    values, refused = read(engine, columns.number, texts_of(["NULL", "nan"]), absent=PARQUET)
    assert refused == {0}
    assert math.isnan(values[1])


def test_labels(engine):
    good = ["0", " 1", "1.0", "true", "FALSE "]
    values, refused = read(engine, columns.label, texts_of(good), absent=CSV)
    assert (values, refused) == ([0, 1, 1, 1, 0], set())
    wrong = ["", "NULL", "nan", "2", "0_1", "0.5"]
    assert read(engine, columns.label, texts_of(wrong), absent=CSV)[1] == set(range(len(wrong)))


# Times.

EPOCH = datetime.datetime(1970, 1, 1)
CLOCKS = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%fZ", " %Y-%m-%d %H:%M:%S.%f+00:00 ")


def seconds_of(engine, array, absent=PARQUET):
    values, refused = read(
        engine, columns.moment, pa.table({"x": array}), absent=absent, latest=LATEST
    )
    assert not refused
    return values


@QUICK
@given(st.integers(-LATEST * 10**9, LATEST * 10**9))
@example(-1)
@example(-(10**9) - 1)
@example(-(10**9))
@example(1_699_999_999_999_999_999)
def test_every_way_to_write_a_moment_is_rounded_down_alike(engine, nanoseconds):
    second, micros = nanoseconds // 10**9, nanoseconds // 1000
    sign, size = "-" if nanoseconds < 0 else "", abs(nanoseconds)
    number = f"{sign}{size // 10**9}.{size % 10**9:09d}"
    moment = EPOCH + datetime.timedelta(microseconds=micros)
    written_ways = [number, f" +{number} " if not sign else number, number.rstrip("0")]
    written_ways += [f"{moment.year:04d}{moment.strftime(form)[4 + form.startswith(' '):]}"
                     for form in CLOCKS]  # fmt: skip
    assert set(seconds_of(engine, pa.array(written_ways), CSV)) == {second}
    for unit, value in (
        ("ns", nanoseconds),
        ("us", micros),
        ("ms", micros // 1000),
        ("s", second),
    ):
        for zone in (None, "UTC", "Europe/Berlin"):
            if (unit, zone is None) != ("ns", False):  # the test below
                assert seconds_of(engine, pa.array([value], pa.timestamp(unit, zone))) == [second]
    exact = decimal.Decimal(nanoseconds).scaleb(-9)
    assert seconds_of(engine, pa.array([exact], pa.decimal128(20, 9))) == [second]
    assert seconds_of(engine, pa.array([micros / 1e6])) == [math.floor(micros / 1e6)]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("int96", [False, True])
def test_nanoseconds_in_files_are_rounded_down(engine, tmp_path, zone, int96):
    path = tmp_path / "x.parquet"
    values = [-(10**9) - 1, -500_000_000, -1, 0, 999_999_999, 1_700_000_000_999_999_999]
    table = pa.table({"x": pa.array(values, pa.timestamp("ns", zone))})
    pq.write_table(table, path, use_deprecated_int96_timestamps=int96)
    kind = engine.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()[0][1]
    column = columns.moment("x", kind, absent=PARQUET, latest=LATEST)
    found, refused = evaluate(engine, column, f"'{path}'")
    assert (found, refused) == ([v // 10**9 for v in values], set())


@pytest.mark.parametrize(
    "text",
    ["", "NULL", "now", "2023-11-20", "11/23/2023 03:46:40", "1.7e9", "1_700_000_000", "1,5",
     "2023-11-23 03:46:40 AM", "20231123T034640", "2023-13-01 00:00:00", "12:00:00", "٣",
     "2023-11-20 10:00.5", "4000000000", "1700000000000", "inf", "nan"],
)  # fmt: skip
def test_texts_that_are_no_time_are_refused(engine, text):
    cells = texts_of(["1700000000", text])
    assert read(engine, columns.moment, cells, absent=CSV, latest=LATEST)[1] == {1}


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("FLOAT", r"got type float32, which keeps today's seconds to the nearest 128 only"),
        ("DATE", "got type date$"),
        ("TIME", "got type time$"),
        ("TIMESTAMP[]", r"got type list of timestamp$"),
        ("DOUBLE[]", r"got type list of float64$"),
        ("BOOLEAN", "got type boolean$"),
    ],
)
def test_types_that_are_no_time_are_refused(kind, why):
    with pytest.raises(SchemaError, match=f"^column 'x': expected Unix seconds or .*, {why}"):
        columns.moment("x", kind, absent=PARQUET, latest=LATEST)


# Spellings.


@QUICK
@given(st.lists(st.text(st.sampled_from("0017aA .-+\xa0İß"), max_size=6), min_size=1))
def test_sql_and_arrow_have_one_spelling(engine, values):
    engine.register("given", texts_of(values))
    rows = engine.execute(f"SELECT {texts.spelling_sql('x')} FROM given").fetchall()
    assert [row[0] for row in rows] == texts.spelling(pa.array(values, pa.string())).to_pylist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["7", "7.0", "007", " 7", "7.", "07.00"], "7"),
        (["Ab c", "abc", "AB\xa0C"], "abc"),
        (["-7", "-07.0"], "-7"),
        (["0", "000", "0.0"], "0"),
    ],
)
def test_spellings_of_one_value(values, expected):
    assert set(texts.spelling(pa.array(values)).to_pylist()) == {expected}


def test_other_values_keep_their_spelling():
    values = ["7.5", "a.0", "a07", "1.0.0", "70", "-", "2023-01-01"]
    assert texts.spelling(pa.array(values)).to_pylist() == values
    assert not re.search("[A-Z]", "".join(texts.DOUBTFUL))
