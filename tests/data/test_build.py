import dataclasses
import json
import signal
import textwrap
import threading
from subprocess import DEVNULL, PIPE

import numpy as np
import pytest

from kunlun_jax.data import Dataset, DatasetError, SchemaError
from kunlun_jax.data.build import (
    build_dataset,
    describe_source,
    open_or_build,
    write_dataset,
)
from kunlun_jax.data.building import shards as shards_module
from kunlun_jax.data.building.shards import shard_of_users
from kunlun_jax.data.manifest import MANIFEST
from kunlun_jax.data.sources import SOURCES, Source
from kunlun_jax.files import file_sha256
from tests.data import toy
from tests.data.comparing import assert_equal, files_in
from tests.processes import run_python, start_python

SOURCE = {"name": "toy", "version": 1, "options": {"seed": 3}}


@pytest.fixture
def registered(monkeypatch):
    """The toy source in the registry; returns the list of the options it was loaded with."""
    calls = []

    def load(options):
        calls.append(options)
        return toy.toy_tables(options)

    monkeypatch.setitem(SOURCES, "toy", Source(toy.Options, load))
    return calls


@pytest.mark.parametrize("num_shards", [1, 3, 20])
def test_round_trip(tmp_path, monkeypatch, num_shards):
    monkeypatch.setattr("kunlun_jax.data.format.EXAMPLES_PER_BLOCK", 16)
    monkeypatch.setattr("kunlun_jax.data.format.USERS_PER_BLOCK", 2)
    tables = toy.toy_tables()
    write_dataset(tables, tmp_path / "toy", source=SOURCE, num_shards=num_shards)
    dataset = Dataset.open(tmp_path / "toy")
    assert dataset.num_users == tables.num_users
    for name in tables.logs:
        assert_equal(tables.logs[name], dataset.logs[name])
    for name in tables.splits:
        assert_equal(tables.splits[name], dataset.splits[name])


def test_manifest(dataset):
    tables = toy.toy_tables()
    manifest = json.loads((dataset.directory / MANIFEST).read_text())
    assert manifest["counts"]["rows"] == {n: len(e) for n, e in tables.splits.items()}
    assert manifest["counts"]["events"] == {n: len(e.times) for n, e in tables.logs.items()}
    assert manifest["label_rates"]["train"]["click"] == pytest.approx(
        np.average(tables.splits["train"].labels[:, 0], weights=tables.splits["train"].weights)
    )
    assert manifest["source_checksums"] == {"toy": "0" * 64}
    assert manifest["seed"] == 0
    assert set(manifest["versions"]) == {"numpy", "pyarrow", "array-record"}
    names = {path.name for path in dataset.directory.iterdir()} - {MANIFEST}
    assert {name for name in names if "columns-" not in name} == {
        entry["name"] for entry in manifest["files"]
    }
    for entry in manifest["files"]:
        path = dataset.directory / entry["name"]
        assert (path.stat().st_size, file_sha256(path)) == (entry["bytes"], entry["sha256"])


def test_mean_and_std_come_from_what_training_sees(dataset):
    tables = toy.toy_tables()
    price = np.log1p(tables.splits["train"].dense[:, 0].astype(np.float64))
    assert dataset.schema.dense[0].mean == pytest.approx(np.nanmean(price))
    assert dataset.schema.dense[0].std == pytest.approx(np.nanstd(price))
    train, log = tables.splits["train"], tables.logs["click"]
    seen = set()
    for user, end in zip(train.users, train.ends["click"], strict=True):
        seen |= set(range(log.offsets[user], log.offsets[user] + end))
    assert 0 < len(seen) < len(log.times)
    amount = log.dense[sorted(seen), 0].astype(np.float64)
    amount = np.sign(amount) * np.log1p(np.abs(amount))
    assert dataset.schema.streams[0].dense[0].mean == pytest.approx(amount.mean())


def test_same_tables_give_the_same_files(tmp_path, dataset):
    again = toy.toy_dataset(tmp_path / "again")
    assert again.manifest == dataset.manifest
    assert again.identity == dataset.identity
    other = toy.toy_dataset(tmp_path / "other", toy.Options(seed=1))
    assert other.identity != dataset.identity


def test_users_are_spread_over_shards():
    shards = shard_of_users(np.arange(10_000), 7)
    counts = np.bincount(shards, minlength=7)
    assert counts.min() > 1200
    np.testing.assert_array_equal(shards[:100], shard_of_users(np.arange(100), 7))


def test_open_or_build_builds_once(tmp_path, registered):
    options = toy.Options(seed=3)
    first = open_or_build("toy", options, tmp_path / "toy")
    second = open_or_build("toy", options, tmp_path / "toy")
    assert registered == [options]
    assert first.identity == second.identity


@pytest.mark.parametrize("change", ["options", "version", "name"])
def test_another_source_is_refused(tmp_path, registered, monkeypatch, change):
    open_or_build("toy", toy.Options(), tmp_path / "toy")
    name, options = "toy", toy.Options()
    if change == "options":
        options = toy.Options(seed=5)
    elif change == "version":
        monkeypatch.setitem(SOURCES, "toy", dataclasses.replace(SOURCES["toy"], version=2))
    else:
        name = "toy2"
        monkeypatch.setitem(SOURCES, "toy2", SOURCES["toy"])
    with pytest.raises(DatasetError, match=r"expected source .*, got .*"):
        open_or_build(name, options, tmp_path / "toy")


def test_earlier_versions_are_not_asked_for_later_options(tmp_path, registered, monkeypatch):
    open_or_build("toy", toy.Options(seed=3), tmp_path / "toy")

    @dataclasses.dataclass(frozen=True)
    class Options(toy.Options):
        lines: bool = True

    later = dataclasses.replace(SOURCES["toy"], options=Options, version=2, earlier=(1,))
    monkeypatch.setitem(SOURCES, "toy", later)
    assert open_or_build("toy", Options(seed=3), tmp_path / "toy").identity
    with pytest.raises(DatasetError, match=r"expected source .*, got .*"):
        open_or_build("toy", Options(seed=5), tmp_path / "toy")


def test_build_refuses_an_existing_directory(tmp_path, registered):
    (tmp_path / "toy").mkdir()
    with pytest.raises(DatasetError, match="exists already"):
        build_dataset("toy", toy.Options(), tmp_path / "toy")
    with pytest.raises(DatasetError, match=r"no data set here, dataset\.json is missing"):
        open_or_build("toy", toy.Options(), tmp_path / "toy")
    assert registered == []


def test_bad_arguments(tmp_path, registered):
    with pytest.raises(ValueError, match=r"source: expected one of .*, got 'nothing'"):
        build_dataset("nothing", toy.Options(), tmp_path / "toy")
    with pytest.raises(ValueError, match=r"expected Options of tests\.data\.toy, got str"):
        describe_source("toy", "options")
    with pytest.raises(ValueError, match="num_shards: expected at least 1, got 0"):
        build_dataset("toy", toy.Options(), tmp_path / "toy", num_shards=0)
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_ran_out_of_disk_goes_on_where_it_was(tmp_path, registered, monkeypatch):
    written = []

    def fail_at_the_third(path):
        if len(written) == 2:
            raise OSError("disk full")
        written.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(shards_module, "file_sha256", fail_at_the_third)
    with pytest.raises(OSError, match="disk full"):
        build_dataset("toy", toy.Options(), tmp_path / "toy", num_shards=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".toy.building", ".toy.lock"]

    rest = []
    monkeypatch.setattr(shards_module, "file_sha256", lambda p: rest.append(p) or file_sha256(p))
    build_dataset("toy", toy.Options(), tmp_path / "toy", num_shards=4)
    assert [len(written), len(rest)] == [2, 2]
    build_dataset("toy", toy.Options(), tmp_path / "again", num_shards=4)
    assert files_in(tmp_path / "toy") == files_in(tmp_path / "again")


def test_what_another_build_has_left_is_not_used(tmp_path, registered, monkeypatch):
    def fail(path):
        raise OSError("disk full")

    with monkeypatch.context() as context:
        context.setattr(shards_module, "file_sha256", fail)
        with pytest.raises(OSError, match="disk full"):
            build_dataset("toy", toy.Options(seed=1), tmp_path / "toy")
    build_dataset("toy", toy.Options(), tmp_path / "toy")
    build_dataset("toy", toy.Options(), tmp_path / "again")
    assert files_in(tmp_path / "toy") == files_in(tmp_path / "again")


def test_a_killed_build_leaves_no_data_set_and_the_next_one_goes_on(tmp_path, registered):
    program = textwrap.dedent(
        """
        import pathlib, sys, time
        from kunlun_jax.data.building import shards
        from tests.data import toy

        def hang(path):
            print("writing", flush=True)
            time.sleep(60)

        shards.file_sha256 = hang
        toy.toy_dataset(pathlib.Path(sys.argv[1]))
        """
    )
    with start_python("-c", program, tmp_path / "toy", stderr=DEVNULL) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".toy.building", ".toy.lock"]
    with pytest.raises(DatasetError, match="no data set here"):
        Dataset.open(tmp_path / "toy")
    open_or_build("toy", toy.Options(), tmp_path / "toy")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".toy.lock", "toy"]


def release(stdin):
    stdin.write("go\n")
    stdin.flush()


def test_two_builders_at_once(tmp_path, registered):
    program = textwrap.dedent(
        """
        import sys
        from kunlun_jax.data import build
        from kunlun_jax.data.sources import SOURCES, Source
        from tests.data import toy

        def load(options):
            print("loading", flush=True)
            sys.stdin.readline()
            return toy.toy_tables(options)

        SOURCES["toy"] = Source(toy.Options, load)
        print(build.open_or_build("toy", toy.Options(), sys.argv[1]).identity, flush=True)
        """
    )
    with start_python("-c", program, tmp_path / "toy", stdin=PIPE, stderr=DEVNULL) as process:
        assert process.stdout.readline() == "loading\n"
        # The other process holds the lock, and goes on after this one has begun to wait.
        timer = threading.Timer(1.0, release, [process.stdin])
        timer.start()
        dataset = open_or_build("toy", toy.Options(), tmp_path / "toy")
        timer.join()
        identity = process.stdout.readline().strip()
    assert dataset.identity == identity
    assert registered == []


def test_contradictory_tables_are_not_written(tmp_path):
    tables = toy.toy_tables()
    tables.splits["train"].labels[5] = 0.5
    with pytest.raises(SchemaError, match=r"1 rows with a label that is not 0 or 1, first: 5"):
        write_dataset(tables, tmp_path / "toy", source=SOURCE)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path):
    command = ["-m", "kunlun_jax.data.build", f"--out={tmp_path / 'x'}"]
    command += ["--source=complete_journey", '--options={"num_negatives": 0}']
    result = run_python(*command)
    assert result.returncode == 1
    assert result.stderr.strip() == "ValueError: num_negatives: expected at least 1, got 0"
