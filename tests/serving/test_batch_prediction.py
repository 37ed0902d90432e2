"""Tables are scored as evaluation scores their rows, whatever happens meanwhile."""

import collections
import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from kunlun_jax.data import DatasetError, SchemaError
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.own_data.stored_schema import stored_schema
from kunlun_jax.metrics.scores import probabilities
from kunlun_jax.serving import batch_prediction
from kunlun_jax.serving.batch_prediction import predict_split, predict_tables, table_schema
from kunlun_jax.serving.trained import open_trained
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict
from tests.data.own_data import world
from tests.documents import ROOT

SCORES = ["score_click", "score_buy"]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def trained(world_run):
    return open_trained(world_run.workdir)


@pytest.fixture(scope="module")
def scored(world_run, trained, tmp_path_factory):
    """The whole table of impressions, scored in several pieces."""
    out = tmp_path_factory.mktemp("scored") / "scores.parquet"
    with pytest.MonkeyPatch.context() as context:
        context.setattr(batch_prediction, "BYTES_PER_SHARD", 8_000)
        assert predict_tables(trained, world_run.inputs, out, keep=["site"]) == 600
    return out


def keyed(users, times, scores):
    """Count rows by user, time and the very bits of their scores."""
    rows = zip(users, times, np.ascontiguousarray(scores), strict=True)
    return collections.Counter((user, int(time), row.tobytes()) for user, time, row in rows)


def matrix(table):
    return np.stack([table[name].to_numpy() for name in SCORES], axis=1)


def test_equals_evaluation_bit_by_bit(world_run, trained, scored, tmp_path):
    with open_finished(world_run.workdir, dataset=str(world_run.dataset.directory)) as (run, state):
        expected = {s: probabilities(predict(run, state, s).logits) for s in SPLITS[1:]}
    users = sorted({row["who"] for row in world_run.tables["impressions"]})
    found = collections.Counter()
    for split in SPLITS:
        assert predict_split(trained, world_run.dataset, split, tmp_path / f"{split}.parquet") == (
            len(world_run.dataset.splits[split])
        )
        table = pq.read_table(tmp_path / f"{split}.parquet")
        if split in expected:
            np.testing.assert_array_equal(matrix(table), expected[split])
        of_user = [users[number] for number in table["user"].to_pylist()]
        found += keyed(of_user, table["time"].to_pylist(), matrix(table))
    whole = pq.read_table(scored)
    assert keyed(whole["who"].to_pylist(), whole["time"].to_pylist(), matrix(whole)) == found
    assert len(set(matrix(whole)[:, 0])) > 100


def test_the_rows_are_those_of_the_input(world_run, scored):
    table = pq.read_table(scored)
    assert table.column_names == ["who", "time", "item", "site", *SCORES]
    for name in ("who", "time", "item", "site"):
        expected = [row[name] or None for row in world_run.tables["impressions"]]
        assert table[name].to_pylist() == expected


def test_csv_without_labels_in_files_that_differ(world_run, trained, scored, tmp_path):
    """Text, Parquet with integers, other columns and another order of them: the same scores."""
    rows = [
        {key: x for key, x in row.items() if key not in ("click", "buy", "importance")}
        for row in world_run.tables["impressions"]
    ]
    world.write_csv(tmp_path / "0.csv", rows[:200])
    with (tmp_path / "1.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*reversed(rows[0])])
        writer.writeheader()
        writer.writerows(rows[200:450])
    columns = {name: [row[name] or None for row in rows[450:]] for name in rows[0]}
    columns["time"] = [int(second) for second in columns["time"]]
    pq.write_table(pyarrow.table(columns), tmp_path / "2.parquet")
    files = tuple(tmp_path / name for name in ("0.csv", "1.csv", "2.parquet"))
    inputs = Inputs({**world_run.inputs.files, "impressions": files})
    predict_tables(trained, inputs, tmp_path / "scores.csv", workers=2)
    found = pyarrow.csv.read_csv(tmp_path / "scores.csv")
    expected = pq.read_table(scored)
    np.testing.assert_array_equal(matrix(found), matrix(expected))
    assert list(map(str, found["time"].to_pylist())) == expected["time"].to_pylist()


class Interrupted(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("moment", [0, 1, 4])
def test_interrupted_and_asked_again(world_run, trained, scored, tmp_path, monkeypatch, moment):
    """It goes on with the pieces that are not there yet, and ends with the same bytes."""
    monkeypatch.setattr(batch_prediction, "BYTES_PER_SHARD", 8_000)
    out, table, done = tmp_path / "scores.parquet", batch_prediction._table, []

    def interrupted(*arguments):
        if len(done) == moment:
            raise Interrupted
        done.append(1)
        return table(*arguments)

    monkeypatch.setattr(batch_prediction, "_table", interrupted)
    with pytest.raises(Interrupted):
        predict_tables(trained, world_run.inputs, out, keep=["site"])
    assert not out.exists()
    monkeypatch.setattr(batch_prediction, "_table", lambda *x: done.append(1) or table(*x))
    predict_tables(trained, world_run.inputs, out, keep=["site"])
    assert out.read_bytes() == scored.read_bytes()
    assert len(done) == 5  # no piece twice
    assert list(tmp_path.iterdir()) == [out]


class TestCommand:
    @pytest.fixture
    def command(self, world_run, compilation_cache, tmp_path):
        files = world_run.inputs.files
        arguments = [
            f"--run={world_run.workdir}",
            f"--impressions={files['impressions'][0]}",
            f"--events=view={files['view'][0]}",
            f"--events=order={files['order'][0]}",
        ]
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
            "PYTHONPATH": str(ROOT),
        }

        def start(*more):
            return subprocess.Popen(
                [sys.executable, "-m", "kunlun_jax.predict", *arguments, *more],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        return start

    def test_killed_and_given_again(self, command, trained, tmp_path):
        out = tmp_path / "scores.parquet"
        process = command(f"--out={out}", "--keep=site")
        scratch = tmp_path / ".scores.parquet.building" / "scratch"
        while not any(scratch.glob("staged-0*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
        printed, errors = (process := command(f"--out={out}", "--keep=site")).communicate()
        assert process.returncode == 0, errors
        expected = {"file": str(out), "rows": 600, "step": trained.step}
        assert json.loads(printed) == expected

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--out=x.csv", "--split=test"], "expected either --impressions or --split"),
            (["--out=x.csv", "--keep=shop"], "expected a column 'shop' to keep, got ['who',"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, command, tmp_path, more, message):
        _, errors = (process := command(*more)).communicate()
        (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert message in line
        assert process.returncode == 1


class TestRefusals:
    def test_an_existing_file(self, world_run, trained, tmp_path):
        (tmp_path / "scores.csv").write_text("mine")
        for call in (
            lambda out: predict_tables(trained, world_run.inputs, out),
            lambda out: predict_split(trained, world_run.dataset, "test", out),
        ):
            with pytest.raises(DatasetError, match=r"scores\.csv: exists already"):
                call(tmp_path / "scores.csv")
        assert (tmp_path / "scores.csv").read_text() == "mine"

    @pytest.mark.parametrize(
        ("out", "keep", "message"),
        [
            ("scores.txt", [], r"scores\.txt: expected a file of the name \.parquet or \.csv"),
            ("scores.csv", ["score_buy"], "--keep: expected columns that are no scores, got"),
        ],
    )
    def test_other_names(self, world_run, trained, tmp_path, out, keep, message):
        with pytest.raises(DatasetError, match=message):
            predict_tables(trained, world_run.inputs, tmp_path / out, keep=keep)

    def test_a_bad_row(self, world_run, trained, tmp_path):
        rows = [dict(row) for row in world_run.tables["impressions"]]
        rows[5]["price"] = "cheap"
        inputs = world.write_tables(tmp_path / "t", {**world_run.tables, "impressions": rows})
        with pytest.raises(SchemaError, match=r"impressions\.csv: column 'price'.* in row 6"):
            predict_tables(trained, inputs, tmp_path / "scores.csv")
        assert {path.name for path in tmp_path.iterdir()} == {"t"}

    def test_tables_of_a_run_on_other_data(self, finished_runs, world_run, tmp_path):
        trained = open_trained(finished_runs[0])
        with pytest.raises(DatasetError, match=r"got one on data source 'synthetic'; --split"):
            predict_tables(trained, world_run.inputs, tmp_path / "scores.csv")


def test_scores_do_not_depend_on_who_else_is_asked_about(world_run, trained, scored, tmp_path):
    """Popularity is of all events, whether their users have requests or not."""
    rows = world_run.tables["impressions"]
    user = rows[0]["who"]
    chosen = [i for i, row in enumerate(rows) if row["who"] == user]
    tables = {**world_run.tables, "impressions": [rows[i] for i in chosen]}
    predict_tables(trained, world.write_tables(tmp_path, tables), tmp_path / "scores.parquet")
    found = matrix(pq.read_table(tmp_path / "scores.parquet"))
    np.testing.assert_array_equal(found, matrix(pq.read_table(scored))[chosen])
    assert len(chosen) > 5


def test_new_users_and_users_without_events(world_run, trained, tmp_path):
    """No event is of anybody who is asked about."""
    rows = [{**row, "who": f"new{i}"} for i, row in enumerate(world_run.tables["impressions"][:5])]
    inputs = world.write_tables(tmp_path / "t", {**world_run.tables, "impressions": rows})
    assert predict_tables(trained, inputs, tmp_path / "scores.parquet") == 5
    assert np.isfinite(matrix(pq.read_table(tmp_path / "scores.parquet"))).all()


def test_a_schema_comes_back_from_its_json(world_run):
    value = world_run.dataset.manifest["source"]["options"]
    assert stored_schema(value) == world.SCHEMA
    with pytest.raises(SchemaError, match="not a table schema: KeyError: 'colour'"):
        stored_schema({**value, "colour": "red"})


def test_tables_of_a_run_from_before_there_were_counts(world_run, trained):
    """Nothing says what is counted, and nothing is, whatever is by default now."""
    assert table_schema(trained).crosses == world.SCHEMA.crosses
    names = ("cross", "popularity")
    options = world_run.dataset.manifest["source"]["options"]
    options = {name: value for name, value in options.items() if name not in names}
    width = len(trained.schema.dense) - len(trained.schema.derived)
    plain = {"dense": trained.schema.dense[:width], "cross": (), "popularity": ()}
    schema = table_schema(
        dataclasses.replace(
            trained,
            manifest={"source": {"name": "own_data", "options": options}},
            schema=dataclasses.replace(trained.schema, **plain),
        )
    )
    assert (schema.crosses, schema.popularities) == ((), ())
