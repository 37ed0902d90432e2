"""Bad tables: one clear line, a non-zero exit, nothing left behind and nothing lost."""

import csv
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data import Dataset, SchemaError
from kunlun_jax.data.own_data.inputs import verify_pages
from tests.faults.harness import ROOT, build_command, flip_bit

SHOP = ROOT / "tests" / "data" / "shop"


@pytest.fixture
def shop(tmp_path):
    return pathlib.Path(shutil.copytree(SHOP, tmp_path / "shop"))


def change_rows(path, change):
    """Rewrite a CSV file; `change` gets its rows, a list of dictionaries, and edits it."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames)
    rows = change(rows) or rows
    columns = list(rows[0]) if rows else columns
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def change_cell(name, row, column, value):
    """A fault: one cell of the given row, counted from 1."""

    def fault(shop):
        change_rows(shop / name, lambda rows: rows[row - 1].update({column: value}))

    return fault


def milliseconds(shop):
    def change(rows):
        for row in rows[6:]:
            row["time"] += "000"

    change_rows(shop / "impressions.csv", change)


def missing_column(shop):
    def change(rows):
        for row in rows:
            del row["category"]

    change_rows(shop / "views.csv", change)


def no_rows(shop):
    (shop / "views.csv").write_text("user,time,item,category,seconds\n")


def no_bytes(shop):
    (shop / "impressions.csv").write_bytes(b"")


def cut_line(shop):
    path = shop / "views.csv"
    lines = path.read_text().splitlines()
    lines[40] = "u1,1700000000"
    path.write_text("\n".join(lines) + "\n")


def binary(shop):
    (shop / "views.csv").write_bytes(b"user,time,item,category,seconds\n\xff\xfe\x00,1,2,3,4\n")


def label_as_a_feature(shop):
    def change(rows):
        for row in rows:
            row["price"] = str(float(row["label"]) + 0.5)

    change_rows(shop / "impressions.csv", change)


def presence_is_the_label(shop):
    def change(rows):
        for row in rows:
            row["price"] = "3.5" if row["label"] == "1" else ""

    change_rows(shop / "impressions.csv", change)


def outcomes_before_their_requests(shop):
    """What a click logs has the second before the request: a clock that is late."""
    with (shop / "impressions.csv").open(newline="") as file:
        clicked = [row for row in csv.DictReader(file) if row["label"] == "1"]
    change_rows(
        shop / "views.csv",
        lambda rows: (
            rows
            + [
                {
                    "user": row["user"],
                    "time": str(int(row["time"]) - 1),
                    "item": row["item"],
                    "category": row["category"],
                    "seconds": "1",
                }
                for row in clicked
            ]
        ),
    )


def other_users(shop):
    def change(rows):
        for row in rows:
            row["user"] = row["user"].removeprefix("u")

    change_rows(shop / "views.csv", change)


def one_moment(shop):
    def change(rows):
        for row in rows:
            row["time"] = "1700000000"

    change_rows(shop / "impressions.csv", change)


FAULTS = {
    "milliseconds": (
        milliseconds,
        r"impressions.csv: column 'time': expected Unix seconds \(milliseconds .*, got "
        r"'17\d+000' in row 7 \(bad rows: 394, first: 7, 8, 9, 10, 11; the first row of data is 1",
    ),
    "a day without a time": (
        change_cell("views.csv", 3, "time", "2023-11-20"),
        r"views.csv: column 'time': expected Unix seconds or a timestamp with .*'2023-11-20' in "
        "row 3",
    ),
    "a time in the future": (
        change_cell("views.csv", 5, "time", "4000000000"),
        r"views.csv: column 'time': expected a time that is not in the future.*in row 5",
    ),
    "a word for a number": (
        change_cell("impressions.csv", 9, "price", "cheap"),
        r"impressions.csv: column 'price': expected a finite number of 32 bits, got 'cheap' in "
        r"row 9 \(bad rows: 1",
    ),
    "an infinite number": (
        change_cell("views.csv", 2, "seconds", "inf"),
        "views.csv: column 'seconds': expected a finite number of 32 bits, got 'inf' in row 2",
    ),
    "a label of two": (
        change_cell("impressions.csv", 4, "label", "2"),
        "impressions.csv: column 'label': expected 0 or 1, got '2' in row 4",
    ),
    "no label": (
        change_cell("impressions.csv", 4, "label", ""),
        "impressions.csv: column 'label': expected 0 or 1, got None in row 4",
    ),
    "no user": (
        change_cell("views.csv", 8, "user", ""),
        "views.csv: column 'user': expected an id, got None in row 8",
    ),
    "a missing column": (
        missing_column,
        r"views.csv: expected a column 'category', got \['user', 'time', 'item', 'seconds'\]",
    ),
    "no rows": (no_rows, "views.csv: expected rows, got none"),
    "an empty file": (no_bytes, "impressions.csv: expected a header and rows, got an empty file"),
    "a line that is cut": (cut_line, r"views.csv: .*Line: 41.*Expected Number of Columns: 5"),
    "not text": (binary, r"views.csv: .*(utf-8|unicode)"),
    "the label as a feature": (
        label_as_a_feature,
        r"column 'price': leak of label 'label': expected overlapping values, got 0.5 .. 0.5",
    ),
    "a feature of positives only": (
        presence_is_the_label,
        "column 'price': leak of label 'label': all positive examples have a value, and no others",
    ),
    "outcomes in the history": (
        outcomes_before_their_requests,
        r"stream 'view': leak of label 'label': expected the outcome of a request after it, got "
        r"the candidate as the newest event before it in 100% of the positive and \d+% of the neg",
    ),
    "other users": (other_users, "views.csv: column 'user': expected users that occur in the imp"),
    "one moment": (one_moment, "expected requests in train, got none"),
}


def build(shop, out, views="views.csv"):
    """Give the command, in this process."""
    return build_command(
        f"--schema={shop / 'my_schema.py'}",
        f"--impressions={shop / 'impressions.csv'}",
        f"--events={shop / views}",
        f"--out={out}",
        "--num_shards=2",
    )


def assert_refused(outcome, message, directory):
    """One line, exit code 1, and nothing but the lock beside the tables."""
    assert outcome.code == 1
    assert re.search(message, outcome.message), outcome.message
    assert outcome.message == outcome.err.splitlines()[-1]
    assert {path.name for path in directory.iterdir()} <= {"shop", ".built.lock"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            id=name,
            marks=pytest.mark.fault(f"own tables: {name}", "refused, and nothing is left behind"),
        )
        for name in FAULTS
    ],
)
def test_refused(shop, tmp_path, name, observe):
    fault, message = FAULTS[name]
    fault(shop)
    outcome = build(shop, tmp_path / "built")
    assert_refused(outcome, message, tmp_path)
    observe(outcome)


def write_views(shop, **columns):
    """Write the views as Parquet, with page checksums; some columns are of another type."""
    with (shop / "views.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = {name: [row[name] or None for row in rows] for name in rows[0]}
    table["time"] = [int(value) for value in table["time"]]
    table["seconds"] = [float(value) if value else None for value in table["seconds"]]
    table |= {name: make(len(rows)) for name, make in columns.items()}
    options = {"write_page_checksum": True, "use_dictionary": False}
    pq.write_table(pa.table(table), shop / "views.parquet", **options)
    return shop / "views.parquet"


WRONG_TYPES = {
    "item": (lambda n: [1.0] * n, "'item': expected ids .*, got type DOUBLE"),
    "time": (lambda n: pa.array([19000] * n, pa.date32()), "'time': expected .*, got type DATE"),
    "seconds": (lambda n: [[1.0]] * n, r"'seconds': expected numbers, got type DOUBLE\[\]"),
}


@pytest.mark.fault("own tables: a wrong type in Parquet", "refused, and nothing is left behind")
@pytest.mark.parametrize("column", WRONG_TYPES)
def test_wrong_type(shop, tmp_path, column, observe):
    make, message = WRONG_TYPES[column]
    write_views(shop, **{column: make})
    outcome = build(shop, tmp_path / "built", "views.parquet")
    assert_refused(outcome, f"views.parquet: column {message}", tmp_path)
    observe(outcome)


@pytest.mark.fault("own tables: a Parquet file that is none, or cut off", "refused likewise")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_not_parquet(shop, tmp_path, share, observe):
    path = write_views(shop)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    outcome = build(shop, tmp_path / "built", path.name)
    assert_refused(outcome, "views.parquet: not a parquet file, or a damaged one", tmp_path)
    observe(outcome)


@pytest.mark.fault(
    "own tables: a flipped bit in the pages of a Parquet file that has checksums, 40 times",
    "40 of 40 refused, naming the file",
)
def test_flipped_pages(shop, observe_text):
    path, draw = write_views(shop), random.Random(0)
    content = path.read_bytes()
    verify_pages(path)
    pages = pages_of(path)
    found = 0
    for _ in range(40):
        start, stop = draw.choice(pages)
        path.write_bytes(content)
        flip_bit(path, draw.randrange(8 * start, 8 * stop))
        with pytest.raises(SchemaError, match=r"views\.parquet: .* a damaged one"):
            verify_pages(path)
        found += 1
    observe_text(f"{found} of 40 found")


def pages_of(path):
    """Return the last bytes of every column: they belong to a page and not to its header."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    ends = [c.data_page_offset + c.total_compressed_size for c in columns]
    return [(end - 30, end) for end in ends]


@pytest.mark.fault(
    "own tables: rows in no order", "sorted by the build: the same data set, bit by bit"
)
def test_unsorted(shop, tmp_path, observe_text):
    assert build(shop, tmp_path / "sorted").code == 0
    for name in ("impressions.csv", "views.csv"):
        change_rows(shop / name, lambda rows: random.Random(0).sample(rows, len(rows)))
    assert build(shop, tmp_path / "shuffled").code == 0
    identities = {Dataset.open(tmp_path / name).identity for name in ("sorted", "shuffled")}
    assert len(identities) == 1
    observe_text("exit 0; equal shards")


@pytest.mark.fault(
    "own tables: events at or after their request",
    "left out of its history, and in that of later requests",
)
def test_events_of_the_future(shop, tmp_path, observe_text):
    assert build(shop, tmp_path / "before").code == 0
    before = Dataset.open(tmp_path / "before").splits["test"]
    with (shop / "impressions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = {row["user"]: row["time"] for row in sorted(rows, key=lambda row: int(row["time"]))}
    late = [
        {"user": user, "time": str(int(time) + wait), "item": "", "category": "", "seconds": ""}
        for user, time in last.items()
        for wait in (0, 1)
    ]
    change_rows(shop / "views.csv", lambda rows: rows + late)
    assert build(shop, tmp_path / "after").code == 0
    dataset = Dataset.open(tmp_path / "after")
    np.testing.assert_array_equal(dataset.splits["test"].ends["view"], before.ends["view"])
    assert dataset.manifest["counts"]["events"]["view"] == 282 + len(late)
    observe_text(f"exit 0; {len(late)} events of the future in no history")


@pytest.mark.fault(
    "own tables: ids of -1, 2^40 or any other kind", "text like any other: a row if training saw it"
)
def test_strange_ids(shop, tmp_path, observe_text):
    strange = {"-1", str(2**40), "NaN", "null", "0", "1e9", "ü ' \" "}
    with (shop / "impressions.csv").open(newline="") as file:
        first = min(csv.DictReader(file), key=lambda row: int(row["time"]))
    rows = [first | {"item": value} for value in sorted(strange)]
    change_rows(shop / "impressions.csv", lambda old: old + rows)
    assert build(shop, tmp_path / "built").code == 0
    dataset = Dataset.open(tmp_path / "built")
    entry = dataset.manifest["vocabularies"]["item"]
    table = pq.read_table(dataset.directory / entry["name"])
    assert strange <= set(table["value"].to_pylist())
    train = dataset.splits["train"].sparse["item"]
    assert (train >= 1).all()
    assert (train < dataset.schema.vocabulary_by_name["item"].num_rows).all()
    observe_text("exit 0; every one a known id")


def run_build(shop, out):
    command = [sys.executable, "-m", "kunlun_jax.data.build", f"--schema={shop / 'my_schema.py'}"]
    command += [f"--impressions={shop / 'impressions.csv'}", f"--events={shop / 'views.csv'}"]
    return subprocess.run(
        [*command, f"--out={out}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.fault(
    "own tables: a data set of other tables stands there", "refused, and the data set stays"
)
def test_another_data_set(shop, tmp_path, observe):
    out = tmp_path / "built"
    assert build(shop, out).code == 0
    before = Dataset.open(out).identity
    change_cell("views.csv", 3, "seconds", "1")(shop)
    outcome = build(shop, out)
    assert outcome.code == 1
    assert "exists already, made from another schema or other files" in outcome.message
    assert Dataset.open(out).identity == before
    observe(outcome)


def test_the_command_as_a_process_ends_with_one_line(shop, tmp_path):
    milliseconds(shop)
    refused = run_build(shop, tmp_path / "other")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("SchemaError: ")
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "other").exists()
