"""Builds that are killed: no data set, and the next build ends with the bytes of one untouched."""

import csv
import pathlib
import shutil
import signal
import time
from subprocess import DEVNULL

import pytest

from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.building import directory as building
from kunlun_jax.data.own_data import load_schema
from kunlun_jax.data.own_data.inputs import Inputs
from tests.data.comparing import files_in
from tests.processes import start_python

ROOT = pathlib.Path(__file__).parents[3]
SHOP = ROOT / "tests" / "data" / "shop"
# Enough events for every step to take a while.
EVENTS = 100_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The shop of the worked example with many more views."""
    directory = tmp_path_factory.mktemp("tables") / "shop"
    shutil.copytree(SHOP, directory)
    with (directory / "views.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (directory / "views.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows[i % len(rows)] for i in range(EVENTS))
    return directory


def build(shop, out, **options):
    files = {"impressions": (shop / "impressions.csv",), "view": (shop / "views.csv",)}
    schema = load_schema(shop / "my_schema.py")
    build_own_data(schema, Inputs(files), out, num_shards=8, workers=1, **options)


@pytest.fixture(scope="module")
def untouched(shop, tmp_path_factory):
    out = tmp_path_factory.mktemp("untouched") / "built"
    build(shop, out)
    return files_in(out)


def start(shop, out, *more):
    command = ["-m", "kunlun_jax.data.build", f"--schema={shop / 'my_schema.py'}"]
    command += [f"--impressions={shop / 'impressions.csv'}", f"--events={shop / 'views.csv'}"]
    command += [f"--out={out}", "--num_shards=8", "--workers=2", *more]
    return start_python(*command, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


def kill_when(process, condition):
    """Kill the process alone, not its workers, as soon as the condition holds."""
    while not condition():
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


def members(session):
    """The processes of a session that are not dead."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(owner) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("moment", ["typed-0.parquet*", "staged-1*", "shard-*-of-00008.json"])
def test_a_killed_build_is_continued_to_the_same_bytes(shop, untouched, tmp_path, moment):
    out = tmp_path / "built"
    scratch = tmp_path / ".built.building" / "scratch"
    process = start(shop, out)
    kill_when(process, lambda: any(scratch.glob(moment)))
    assert not out.exists()
    deadline = time.monotonic() + 60
    while members(process.pid):
        assert time.monotonic() < deadline, "workers outlive the build"
        time.sleep(0.05)
    build(shop, out)
    assert files_in(out) == untouched


def test_a_killed_extension_leaves_the_old_data_set_as_it_is(shop, tmp_path):
    """And the next one of the same command ends with the bytes of one that was not killed."""
    old, out, whole = tmp_path / "old", tmp_path / "built", tmp_path / "whole"
    build(shop, old)
    before = files_in(old)
    for row, file in enumerate((shop / "impressions.csv", shop / "views.csv")):
        text = file.read_text().splitlines()
        changed = [line.replace(",i1,", f",new{row},") for line in text]
        (tmp_path / file.name).write_text("\n".join(changed) + "\n")
    shutil.copy(shop / "my_schema.py", tmp_path)
    scratch = tmp_path / ".built.building" / "scratch"
    for moment in ("values-*", "shard-*-of-00008.json"):
        process = start(tmp_path, out, f"--extend={old}")
        kill_when(process, lambda moment=moment: any(scratch.glob(moment)))
        assert not out.exists()
        assert files_in(old) == before
    build(tmp_path, out, extend=old)
    build(tmp_path, whole, extend=old)
    assert files_in(out) == files_in(whole)
    assert files_in(old) == before


@pytest.mark.slow
def test_builds_killed_at_any_moment(shop, untouched, tmp_path):
    begin = time.monotonic()
    assert start(shop, tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - begin
    for trial in range(20):
        out = tmp_path / f"built-{trial}"
        process = start(shop, out)
        time.sleep(seconds * (trial + 1) / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        build(shop, out)
        assert files_in(out) == untouched, trial


def test_what_a_killed_removal_has_left_is_not_used(shop, untouched, tmp_path, monkeypatch):
    """Its scratch is removed at the end; killed there, half of the staged rows are still there."""
    out = tmp_path / "built"

    rmtree = shutil.rmtree

    def remove_a_part(path, **options):
        if pathlib.Path(path).name != building.SCRATCH:
            rmtree(path, **options)
            return
        victims = sorted(path.glob("staged-1/*/*.parquet")) + sorted(path.glob("shard-*.json"))
        for victim in victims[::2]:
            victim.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(building.shutil, "rmtree", remove_a_part)
        build(shop, out)
    assert not out.exists()
    build(shop, out)
    assert files_in(out) == untouched
