"""Programs keep what they compile in the user's cache folder, unless JAX is told otherwise."""

import os
import pathlib
import time

import pytest

from kunlun_jax import compilation_cache
from tests.processes import run_python

CODE = """
import sys
from kunlun_jax.command_line import parse_flags, run_program

def main(argv):
    import jax
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    print(jax.jit(lambda x: x + 1)(1))
    print(jax.config.jax_compilation_cache_dir)

run_program(main, parse_flags)
"""


def run(home, **variables):
    settings = {"XDG_CACHE_HOME": str(home), "JAX_COMPILATION_CACHE_DIR": "", **variables}
    ran = run_python("-c", CODE, variables=settings)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    result, directory = ran.stdout.splitlines()
    assert result == "2"
    return pathlib.Path(directory)


def files(directory):
    return [path for path in directory.rglob("*-cache")]


def test_the_second_run_compiles_nothing(tmp_path):
    directory = run(tmp_path)
    assert directory.parent == tmp_path / "kunlun_jax" / "compilations"
    kept = {path: path.stat().st_mtime_ns for path in files(directory)}
    assert kept
    assert run(tmp_path) == directory
    assert {path: path.stat().st_mtime_ns for path in files(directory)} == kept


def test_a_damaged_entry_is_compiled_again(tmp_path):
    directory = run(tmp_path)
    assert files(directory)
    for path in files(directory):
        path.write_bytes(path.read_bytes()[:-20])
    settings = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": ""}
    ran = run_python("-c", CODE, variables=settings)
    assert ran.returncode == 0
    assert ran.stdout.startswith("2\n")


def test_entries_that_nobody_uses_go(tmp_path):
    directory = run(tmp_path)
    (unused,) = {path.with_name("unused-cache") for path in files(directory)}
    unused.touch()
    os.utime(unused, (time.time() - 31 * 86_400,) * 2)
    kept = files(directory)
    assert run(tmp_path) == directory
    assert set(files(directory)) == set(kept) - {unused}


def test_jaxs_own_settings_come_first(tmp_path):
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own")) == tmp_path / "own"
    off = run(tmp_path / "off", JAX_ENABLE_COMPILATION_CACHE="false")
    assert files(off) == []


@pytest.mark.parametrize("home", ["file", "/proc/nowhere"])
def test_without_a_place_nothing_is_kept(tmp_path, monkeypatch, home):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert compilation_cache.use_compilation_cache() is None


def test_without_a_home_nothing_is_kept(monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert compilation_cache.use_compilation_cache() is None
