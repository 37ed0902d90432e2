"""A wheel of the sources, and environments in which nothing of the source tree is in sight."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.documents import ROOT

FILES = ("pyproject.toml", "README.md", "LICENSE", "train.py")
FOLDERS = ("kunlun_jax", "pallas_kernels", "configs")
_OURS = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}


def run(command: Sequence[Any], **options: Any) -> str:
    """Run a command to its end, which has to be a good one; return what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def fresh_environment(home: pathlib.Path, pip: str = "") -> dict[str, str]:
    """Make an empty virtual environment; return the variables with which its programs come first.

    Args:
        home: Its directory.
        pip: Version of pip; by default the one that Python brings.
    """
    run([sys.executable, "-m", "venv", home])
    if pip:
        run([home / "bin" / "python", "-m", "pip", "install", "--quiet", f"pip=={pip}"])
    return {name: value for name, value in os.environ.items() if name not in _OURS} | {
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(home / "compilations"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def copy_sources(directory: pathlib.Path) -> None:
    """Copy what a wheel is made of."""
    for name in FILES:
        shutil.copy(ROOT / name, directory)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, directory / name, symlinks=True, ignore=ignored)


def build_wheel(
    source: pathlib.Path, directory: pathlib.Path, environment: Mapping[str, str]
) -> pathlib.Path:
    """Make a wheel of copied sources.

    Args:
        source: An empty directory for the copy.
        directory: Where the wheel goes.
        environment: Variables of the environment whose pip makes it.
    """
    copy_sources(source)
    run(["pip", "wheel", "--quiet", "--no-deps", "-w", directory, source], env=environment)
    (wheel,) = directory.glob("*.whl")
    return wheel


def copy_example(directory: pathlib.Path) -> None:
    """Copy the tables and the schema of the worked example, as its user would."""
    for file in (ROOT / "tests" / "data" / "shop").iterdir():
        if file.is_file():
            shutil.copy(file, directory)
