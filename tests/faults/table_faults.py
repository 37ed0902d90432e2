"""What goes wrong with tables of one's own, done to the shop's, and what is then said."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq


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


def blank_first_line(shop):
    path = shop / "views.csv"
    path.write_text("\n" + path.read_text())


def columns_equal_but_for_case(shop):
    path = shop / "views.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},Item", *(f"{line},x" for line in lines[1:])]) + "\n")


def utf16(shop):
    path = shop / "views.csv"
    path.write_bytes(path.read_text().encode("utf-16"))


def open_quote(shop):
    path = shop / "views.csv"
    path.write_text(path.read_text() + 'u1,1700000000,"i1,c1,3\n')


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


def condition(where):
    """A fault: the schema takes only the views of which an SQL condition is true."""

    def fault(shop):
        path = shop / "my_schema.py"
        text = path.read_text()
        known = 'dense=("seconds",)'
        assert known in text
        path.write_text(text.replace(known, f"{known}, where={where!r}"))

    return fault


FAULTS = {
    "milliseconds": (
        milliseconds,
        r"impressions.csv: column 'time': expected Unix seconds \(milliseconds .*, got "
        r"'17\d+000' in row 7 \(bad rows: 394, first: 7, 8, 9, 10, 11",
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
    "a line that is cut": (cut_line, r"views.csv: line 41: expected 5 columns, got 2"),
    "not text": (binary, "views.csv: line 2: expected text in UTF-8, got byte 0xff"),
    "a blank first line": (
        blank_first_line,
        "views.csv: line 1: expected a header, got a line without a name",
    ),
    "columns that are equal but for case": (
        columns_equal_but_for_case,
        "views.csv: columns 'item' and 'Item': expected names that differ in more than upper and",
    ),
    "text in UTF-16": (utf16, "views.csv: line 1: expected text in UTF-8, got UTF-16; convert"),
    "a quote that stays open": (
        open_quote,
        r"views.csv: line \d+: expected quotes that close, got unexpected end of data",
    ),
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
    "a condition on a column that is not there": (
        condition("kind = 'view'"),
        r"views.csv: where \"kind = 'view'\": no column 'kind'; expected a condition on the col",
    ),
    "a condition that draws lots": (
        condition("random() < 0.5"),
        r"views.csv: where \"random\(\) < 0.5\": random\(\) does not depend on the row alone",
    ),
    "one moment": (one_moment, "expected requests in train, got none"),
}


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
