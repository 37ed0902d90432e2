"""docs/data.md, followed from a wheel: its commands, in an empty directory, with an old pip.

Needs a package index; some two minutes: `pytest -m slow tests/test_wheel.py`, which CI runs.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.documents import ROOT, blocks

PIP = "23.2.1"  # of Python 3.11.7: it asks for an extra under the very name that it is given
SECTION = "## Tables of your own"
pytestmark = pytest.mark.slow


def run(command, **options):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty virtual environment with that pip; nothing of the source tree is in sight."""
    home = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", home])
    run([home / "bin" / "python", "-m", "pip", "install", "--quiet", f"pip=={PIP}"])
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in hidden} | {
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(home / "compilations"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.fixture(scope="module")
def directory(environment, tmp_path_factory):
    """A directory elsewhere with the wheel and the files of the example."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "train.py"):
        shutil.copy(ROOT / name, source)
    for name in ("kunlun_jax", "pallas_kernels", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    directory = tmp_path_factory.mktemp("elsewhere")
    run(["pip", "wheel", "--quiet", "--no-deps", "-w", directory, source], env=environment)
    for file in (ROOT / "tests" / "data" / "shop").iterdir():
        shutil.copy(file, directory)
    return directory


def test_from_own_csv_files_to_an_audited_model(directory, environment):
    commands = blocks("docs/data.md", SECTION, "bash")[0]
    assert [line.split()[1] for line in commands.splitlines() if line.startswith("kunlun-jax")] == [
        "build", "validate", "plan", "train", "audit",
    ]  # fmt: skip
    out = run(["bash", "-euo", "pipefail", "-c", commands], cwd=directory, env=environment)
    assert "0 findings" in out
    assert "best checkpoint: step 1" in out
    assert json.loads((directory / "runs" / "shop" / "audit.json").read_text())
    assert f"pip {PIP} " in run(["pip", "--version"], env=environment)
    # The extra came with it, by its documented name, and nothing took a name that is not ours.
    run(["python", "-c", "import duckdb"], cwd=directory, env=environment)
    for name in ("configs", "train", "tests", "benchmarks"):
        code = f"import importlib.util as u; assert u.find_spec({name!r}) is None"
        run(["python", "-c", code], cwd=directory, env=environment)
