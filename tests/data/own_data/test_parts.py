"""The headers of files, and the parts of one table: read where the meaning is clear."""

import dataclasses
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data import Dataset, SchemaError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.own_data import Events, TableSchema
from kunlun_jax.data.own_data.headers import column_names
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.messages import LONGEST, clipped, named, path_shown, value_shown
from tests.data.own_data import world


def text_of(rows):
    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)


def build(place, tables, views):
    """Build with other files of views: name -> content."""
    inputs = world.write_tables(place / "tables", tables)
    paths = tuple(place / name for name in views)
    for path, content in zip(paths, views.values(), strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    build_own_data(
        world.SCHEMA, Inputs({**inputs.files, "view": paths}), place / "built", num_shards=3
    )
    return Dataset.open(place / "built")


def each_line(change):
    """Change every line, given its number and its text without an end."""
    return lambda text: "".join(change(i, line) for i, line in enumerate(text.splitlines()))


ENDS = ("\r", "\r\n", "\n")
SAME = {
    "an index of pandas": each_line(lambda i, line: f"{'' if i == 0 else i},{line}\n"),
    "a separator at every end": each_line(lambda i, line: f"{line},\n"),
    "a separator at every end but the header's": each_line(
        lambda i, line: f"{line}{',' if i else ''}\n"
    ),
    "a byte-order mark": lambda text: "\ufeff" + text,
    "a quoted header": lambda text: re.sub(r"\w+", r'"\g<0>"', text, count=5),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "mixed ends": each_line(lambda i, line: line + ENDS[i % 3]),
    "no end of the last line": str.rstrip,
    "blank lines": each_line(lambda i, line: f"{line}\n" + "\n" * (i % 3 == 2)),
    "a quoted end of another kind": each_line(
        lambda i, line: line + (',"a\r\nb, c"\n' if i else ",note\n")
    ),
    "columns called as the engine's": each_line(
        lambda i, line: line + (",9" * 7 if i else ",filename,place,kept,bad_0,c0,t,value") + "\n"
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_headers_and_ends_that_are_read(tmp_path, tables, dataset, name):
    changed = SAME[name](text_of(tables["view"]))
    assert build(tmp_path, tables, {"v.csv": changed}).identity == dataset.identity


REFUSED = {
    "a blank first line": (lambda text: "\n" + text, "line 1: expected a header, got a line"),
    "a comment": (lambda text: "# by hand\n" + text, r"expected a column 'user', got \['# by hand"),
    "names that differ by case": (
        each_line(lambda i, line: f"{line},{'Item' if i == 0 else 'x'}\n"),
        "columns 'item' and 'Item': expected names that differ in more than upper and lower case",
    ),
    "a name twice": (
        each_line(lambda i, line: f"{line},{'item' if i == 0 else 'x'}\n"),
        "column 'item' occurs more than once",
    ),
    "UTF-16": (lambda text: text.encode("utf-16"), "line 1: expected text in UTF-8, got UTF-16"),
    "UTF-16 without a mark": (lambda text: text.encode("utf-16-le"), "line 1: expected text in"),
    "Latin-1": (
        lambda text: (text + "u1,1600000001,caf\xe9,a,2\n").encode("latin-1"),
        "line 65: expected text in UTF-8, got byte 0xe9",
    ),
    "a long field": (
        lambda text: text + f"u1,1600000001,{'x' * 3_000_000},a,2\n",
        r"line 65: expected at most 2000000 bytes, got 30000\d+, as of 'xxx",
    ),
    "a long value": (
        lambda text: text + f"u1,1600000001,1,a,{'x' * 30_000}\n",
        r"column 'amount': expected a finite number .*, got 'xxx.* \(30000 characters\) in row 64",
    ),
    "a long header": (lambda text: "x" * 3_000_000 + "," + text, "line 1: .*(header|columns)"),
    "a quote that stays open": (
        lambda text: text + 'u1,1600000001,"1,a,2\nu2,1600000001,1,a,2\n',
        "line 65: expected quotes that close, got",
    ),
    "one cell more": (
        lambda text: text + "u1,1600000001,1,a,2,3\n",
        "line 65: expected 5 columns, got 6",
    ),
    "one cell less": (
        lambda text: text + "u1,1600000001,1,a\n",
        "line 65: expected 5 columns, got 4",
    ),
    "one cell less, and mixed ends": (
        lambda text: text.replace("\n", "\r\n", 5) + "u1,1600000001,1,a\n",
        "line 65: expected 5 columns, got 4",
    ),
    "semicolons": (lambda text: text.replace(",", ";"), "expected a column 'user', got"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_own_words(tmp_path, tables, name):
    change, message = REFUSED[name]
    with pytest.raises(SchemaError, match=rf"v\.csv: {message}") as error:
        build(tmp_path, tables, {"v.csv": change(text_of(tables["view"]))})
    said = str(error.value)
    assert len(said) <= LONGEST
    assert not re.search(r"\n|SELECT|read_csv|Binder|Invalid Input", said)
    assert {path.name for path in tmp_path.iterdir()} == {"tables", "v.csv", ".built.lock"}


def test_the_file_that_is_bad_is_named_among_many(tmp_path, tables):
    text = text_of(tables["view"])
    views = {f"{i}.csv": text for i in range(4)} | {"2.csv": text + "u1,x\n"}
    with pytest.raises(SchemaError, match=r"/2\.csv: line 65: expected 5 columns, got 2"):
        build(tmp_path, tables, views)


def parts_of(rows, change):
    """The views as two Parquet files, the second one changed; users' items are integers."""
    table = pa.table(
        {
            "user": [row["user"] for row in rows],
            "time": [int(row["time"]) for row in rows],
            "item": [int(row["item"]) if row["item"] else None for row in rows],
            "tag": [row["tag"] for row in rows],
            "amount": pa.array([float(row["amount"] or "nan") for row in rows], pa.float64()),
        }
    )
    half = len(rows) // 2
    return table.slice(0, half), change(table.slice(half))


def cast(name, kind):
    return lambda table: table.set_column(
        table.column_names.index(name), name, table[name].cast(kind)
    )


PARTS = {
    "the same": lambda table: table,
    "a narrower integer": cast("item", pa.int8()),
    "an unsigned integer": cast("item", pa.uint64()),
    "text beside integers": cast("item", pa.string()),
    "a dictionary beside text": lambda table: table.set_column(
        3, "tag", table["tag"].dictionary_encode()
    ),
    "large text": cast("tag", pa.large_string()),
    "another order": lambda table: table.select(table.column_names[::-1]),
    "a column that is not used": lambda table: table.append_column("app", [["2"] * len(table)]),
    "a column without a name": lambda table: table.add_column(0, "", [[1] * len(table)]),
    "time as text": cast("time", pa.string()),
}


def write_parts(place, tables, parts):
    inputs = world.write_tables(place / "tables", tables)
    paths = tuple(place / f"{i}.parquet" for i in range(len(parts)))
    for path, part in zip(paths, parts, strict=True):
        pq.write_table(part, path)
    return Inputs({**inputs.files, "view": paths})


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_one_table(tmp_path, tables, dataset, name):
    inputs = write_parts(tmp_path, tables, parts_of(tables["view"], PARTS[name]))
    build_own_data(world.SCHEMA, inputs, tmp_path / "built", num_shards=3)
    assert Dataset.open(tmp_path / "built").identity == dataset.identity


def test_a_part_without_any_value(tmp_path, tables):
    rows = [dict(row) for row in tables["view"]]
    for row in rows[len(rows) // 2 :]:
        row["item"] = row["amount"] = ""
    expected = world.build(tmp_path / "text", {**tables, "view": rows})

    def nothing(table):
        for place, name in ((2, "item"), (4, "amount")):
            table = table.set_column(place, name, pa.nulls(len(table)))
        return table

    inputs = write_parts(tmp_path, tables, parts_of(rows, nothing))
    build_own_data(world.SCHEMA, inputs, tmp_path / "built", num_shards=3)
    assert Dataset.open(tmp_path / "built").identity == expected.identity


def test_csv_and_tsv_in_one_table(tmp_path, tables, dataset):
    lines = text_of(tables["view"]).splitlines(keepends=True)
    views = {"0.csv": "".join(lines[:30]), "1.tsv": lines[0] + "".join(lines[30:])}
    views["1.tsv"] = views["1.tsv"].replace(",", "\t")
    assert build(tmp_path, tables, views).identity == dataset.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["tag"]), r"1.parquet: expected a column 'tag', got \['user'"),
        (cast("item", pa.float64()), "1.parquet: column 'item': expected ids .*got type float64"),
        (
            lambda t: t.append_column("ITEM", t["item"]),
            "1.parquet: columns 'item' and 'ITEM': expected names that differ",
        ),
    ],
)
def test_parts_that_are_refused(tmp_path, tables, change, message):
    inputs = write_parts(tmp_path, tables, parts_of(tables["view"], change))
    with pytest.raises(SchemaError, match=message):
        build_own_data(world.SCHEMA, inputs, tmp_path / "built")


def test_a_condition_on_a_column_that_a_part_does_not_have(tmp_path, tables):
    inputs = write_parts(tmp_path, tables, parts_of(tables["view"], lambda t: t))
    view = dataclasses.replace(world.SCHEMA.streams[0], where="app = '2'")
    schema = dataclasses.replace(world.SCHEMA, streams=(view, world.SCHEMA.streams[1]))
    with pytest.raises(SchemaError, match=r"0.parquet: where \"app = '2'\": .*app") as error:
        build_own_data(schema, inputs, tmp_path / "built")
    assert len(str(error.value)) <= LONGEST


def test_a_condition_that_takes_no_row(tmp_path, tables):
    inputs = world.write_tables(tmp_path / "tables", tables)
    view = dataclasses.replace(world.SCHEMA.streams[0], where="tag = 'x' OR false -- none")
    schema = dataclasses.replace(world.SCHEMA, streams=(view, world.SCHEMA.streams[1]))
    with pytest.raises(SchemaError, match=r"view.csv: expected rows, got none, of 63 that the"):
        build_own_data(schema, inputs, tmp_path / "built")


# Names that the build gives to columns of its own.
INTERNAL = ("row", "key", "number", "shard", "unit", "t", "users", "split", "s0", "d0", "l0", "w0")


def test_columns_with_names_that_the_build_uses(tmp_path, tables):
    rows = tables["impressions"]
    plain = {f"x{i}": name for i, name in enumerate(INTERNAL)}
    streams = (Events("order", ids=("item",), time="at", user="buyer"),)
    schemas = [
        TableSchema(
            name="names", user="who", labels=("click",), dense=("price", names[0]),
            sparse=("item", *names[1:]), candidate=("item",), streams=streams,
        )
        for names in (list(plain), list(INTERNAL))
    ]  # fmt: skip
    found = []
    for schema, renamed in zip(schemas, (True, False), strict=True):
        more = {name: i for i, name in enumerate(plain if renamed else INTERNAL)}
        wide = [
            {**row, **{name: f"{(k * 7 + i) % 5}" for name, i in more.items()}}
            for k, row in enumerate(rows)
        ]
        place = tmp_path / str(renamed)
        built = world.build(place, {"impressions": wide, "order": tables["order"]}, schema=schema)
        found.append([e.sparse[n][:, 0].tolist() for e in built.splits.values() for n in e.sparse])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["row", "place", "value", "bad", "kept"])
def test_a_bad_value_in_a_column_of_such_a_name(tmp_path, tables, name):
    rows = [{**row, name: "1"} for row in tables["impressions"]]
    rows[5][name] = "cheap"
    schema = dataclasses.replace(world.SCHEMA, dense=(name,))
    with pytest.raises(SchemaError, match=rf"column {name!r}: .*, got 'cheap' in row 6 \(bad rows"):
        world.build(tmp_path, {**tables, "impressions": rows}, schema=schema)


class TestMessages:
    """What is said is short."""

    def test_all_that_is_long_is_cut(self):
        assert len(clipped("a b " * 1000)) == LONGEST
        assert path_shown("/a/" + "x" * 500).endswith("x" * 99)
        assert len(path_shown("/a/" + "x" * 500)) == 100
        assert value_shown("y" * 50) == f"{'y' * 40!r}… (50 characters)"
        with pytest.raises(SchemaError, match=r"^a\.csv: bad") as error, named("a.csv"):
            raise SchemaError("bad\nvery " + "bad" * 500)
        assert len(str(error.value)) == LONGEST

    def test_a_header_of_many_columns(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(",".join(f"column{i}" for i in range(5000)) + "\n")
        assert len(column_names(path)) == 5000
