"""Bad tables: one clear line, a non-zero exit, nothing left behind and nothing lost."""

import csv
import pathlib
import random
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data import Dataset, SchemaError
from kunlun_jax.data.own_data.headers import verify_pages
from tests.faults.harness import ROOT, build_command, fault_cases, flip_bit
from tests.faults.table_faults import FAULTS, change_cell, change_rows, milliseconds, write_views
from tests.processes import run_python

SHOP = ROOT / "tests" / "data" / "shop"


@pytest.fixture
def shop(tmp_path):
    return pathlib.Path(shutil.copytree(SHOP, tmp_path / "shop"))


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
    "name", fault_cases(FAULTS, "own tables: {}", "refused, and nothing is left behind")
)
def test_refused(shop, tmp_path, name, observe):
    fault, message = FAULTS[name]
    fault(shop)
    outcome = build(shop, tmp_path / "built")
    assert_refused(outcome, message, tmp_path)
    observe(outcome)


WRONG_TYPES = {
    "item": (lambda n: [1.0] * n, "'item': expected ids .*, got type float64"),
    "time": (lambda n: pa.array([19000] * n, pa.date32()), "'time': expected .*, got type date"),
    "seconds": (lambda n: [[1.0]] * n, r"'seconds': expected numbers, got type list of float64"),
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
    strange, nothing = {"-1", str(2**40), "0", "1e9", "ü ' \""}, {"NaN", "null", "\\N", " "}
    with (shop / "impressions.csv").open(newline="") as file:
        first = min(csv.DictReader(file), key=lambda row: int(row["time"]))
    rows = [first | {"item": f" {value} "} for value in sorted(strange | nothing)]
    change_rows(shop / "impressions.csv", lambda old: old + rows)
    assert build(shop, tmp_path / "built").code == 0
    dataset = Dataset.open(tmp_path / "built")
    entry = dataset.manifest["vocabularies"]["item"]
    table = pq.read_table(dataset.directory / entry["name"])
    values = set(table["value"].to_pylist())
    assert strange <= values
    assert not nothing & values
    examples = dataset.splits["train"]
    assert (examples.sparse_lengths["item"] == 0).sum() == len(nothing)
    train = examples.sparse["item"][examples.sparse_lengths["item"] > 0]
    assert (train >= 1).all()
    assert (train < dataset.schema.vocabulary_by_name["item"].num_rows).all()
    observe_text("exit 0; every one a known id; NaN, null and a blank are no id")


def run_build(shop, out):
    files = f"--impressions={shop / 'impressions.csv'}", f"--events={shop / 'views.csv'}"
    program = ("-m", "kunlun_jax.data.build", f"--schema={shop / 'my_schema.py'}")
    return run_python(*program, *files, f"--out={out}")


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
