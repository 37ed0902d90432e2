import concurrent.futures
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kunlun_jax import files
from kunlun_jax.files import (
    InUseError,
    discard_parts,
    first_difference,
    json_sha256,
    locked,
    part_of,
    publish,
    settle,
)

ROOT = pathlib.Path(__file__).parents[1]
# Kills itself at its n-th call of one of these; a call that is killed has not begun.
WRITER = """
import os, pathlib, signal, sys
from kunlun_jax import files
name, at, path, text = sys.argv[1:]
left = [int(at)]
def killing(function):
    def call(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
owner = {"write": pathlib.Path, "replace": pathlib.Path, "fsync": os}[name]
attribute = {"write": "write_bytes"}.get(name, name)
setattr(owner, attribute, killing(getattr(owner, attribute)))
files.publish(pathlib.Path(path), text)
"""
HOLDER = """
import pathlib, sys, time
from kunlun_jax.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE
    )


class TestPublish:
    @pytest.mark.parametrize(
        ("name", "at", "content"),
        [
            ("write", 1, "old"),
            ("fsync", 1, "old"),  # of the file
            ("replace", 1, "old"),
            ("fsync", 2, "new"),  # of the folder
            ("replace", 2, "new"),  # never comes
        ],
    )
    def test_a_kill_leaves_the_old_file_or_the_new(self, tmp_path, name, at, content):
        path = tmp_path / "file"
        publish(path, "old")
        with python(WRITER, name, at, path, "new") as writer:
            code = writer.wait()
        assert code == (0 if at == 2 and name == "replace" else -signal.SIGKILL)
        assert path.read_text() == content
        discard_parts(path)
        assert list(tmp_path.iterdir()) == [path]

    def test_the_disk_has_it_before_it_gets_its_name(self, tmp_path, monkeypatch):
        calls = []
        monkeypatch.setattr(files, "sync", lambda path: calls.append(("sync", path)))
        replace = pathlib.Path.replace

        def replace_and_note(self, target):
            calls.append(("replace", target))
            return replace(self, target)

        monkeypatch.setattr(pathlib.Path, "replace", replace_and_note)
        path = tmp_path / "file"
        publish(path, b"content")
        (first, part), *rest = calls
        assert (first, part.parent) == ("sync", tmp_path)
        assert part != path
        assert rest == [("replace", path), ("sync", tmp_path)]

    @given(
        writes=st.lists(
            st.tuples(st.binary(max_size=20), st.sampled_from(["write", "sync", "rename", ""])),
            max_size=6,
        )
    )
    def test_a_failed_write_leaves_the_last_good_one(self, writes):
        def fail(*arguments):
            raise OSError(28, "No space left on device")

        with tempfile.TemporaryDirectory() as directory:
            path, expected = pathlib.Path(directory, "file"), None
            for content, fault in writes:
                with pytest.MonkeyPatch.context() as patch:
                    if fault == "write":
                        patch.setattr(pathlib.Path, "write_bytes", fail)
                    elif fault == "sync":
                        patch.setattr(os, "fsync", fail)
                    elif fault == "rename":
                        patch.setattr(pathlib.Path, "replace", fail)
                    with contextlib.suppress(OSError):
                        publish(path, content)
                        expected = content
                found = {p.name: p.read_bytes() for p in path.parent.iterdir()}
                assert found == ({} if expected is None else {"file": expected})


def test_a_folder_is_settled_with_all_it_holds(tmp_path, monkeypatch):
    synced = []
    path = tmp_path / "folder"
    part = part_of(path)
    (part / "inner").mkdir(parents=True)
    (part / "inner" / "file").write_text("content")
    sync = files.sync
    monkeypatch.setattr(files, "sync", lambda path: synced.append(path) or sync(path))
    settle(part, path)
    assert (path / "inner" / "file").read_text() == "content"
    assert {part, part / "inner", part / "inner" / "file", tmp_path} == set(synced)


class TestLocked:
    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_a_killed_holder_lets_go(self, tmp_path, kind):
        path = tmp_path if kind == "folder" else tmp_path / "lock"
        holder = python(HOLDER, path)
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InUseError, match="process") as raised, locked(path, wait=False):
            pass
        if kind == "file":
            assert str(raised.value).startswith(f"process {holder.pid} on ")
            assert path.read_text() == str(raised.value)  # asking has not changed it
        holder.kill()
        holder.wait()
        holder.stdout.close()
        with locked(path, wait=False):
            pass

    def test_waits_for_the_holder(self, tmp_path):
        path = tmp_path / "lock"
        with locked(path):
            other = python(HOLDER, path)
            time.sleep(0.5)
            assert other.poll() is None
            assert f"process {os.getpid()} on " in path.read_text()
        assert other.stdout.readline() == b"held\n"
        other.kill()
        other.wait()
        other.stdout.close()

    def test_a_file_that_is_removed_still_excludes(self, tmp_path):
        """Whoever waited for the removed one would else hold it beside the holder of a new one."""
        path, holders, most = tmp_path / "lock", [], []

        def hold(number):
            with locked(path, keep=False):
                holders.append(number)
                time.sleep(0.002)
                most.append(len(holders))
                holders.remove(number)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(hold, range(100)))
        assert most == [1] * 100
        assert not path.exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_there_is_a_difference_just_where_there_is_one(a, b):
    assert first_difference(a, a) is None
    # A key that holds "nothing" is as good as none, and True is 1.
    assert (first_difference(a, b) is None) == (a == b)


def test_first_difference_names_the_place():
    a = {"x": {"y": 1, "z": [1, 2]}, "w": "v"}
    assert first_difference(a, {"x": {"y": 1, "z": [1, 2]}, "w": "v"}) is None
    assert first_difference(a, {"x": {"y": 1, "z": [1, 3]}, "w": "v"}) == ("x.z[1]", 2, 3)
    assert first_difference(a, {"x": {"y": 1, "z": [1]}, "w": "v"}) == ("x.z", [1, 2], [1])
    assert first_difference(a, {"x": {"y": 1}, "w": "v"}) == ("x.z", [1, 2], "nothing")
    assert first_difference({}, {"x": 1}) == ("x", "nothing", 1)
    assert first_difference([{"a": 1}], [{"a": 2}], "schema") == ("schema[0].a", 1, 2)


def test_the_checksum_of_json_is_that_of_its_content():
    assert json_sha256({"a": 1, "b": [2]}) == json_sha256({"b": [2], "a": 1})
    assert json_sha256({"a": 1}) != json_sha256({"a": 2})
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # sha256sum of "{}"
    assert json_sha256({}) == empty
