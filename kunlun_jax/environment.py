"""Where a number comes from: commit, machine and versions, for what is kept of a measurement."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Sequence
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def environment(libraries: Sequence[str]) -> dict[str, Any]:
    """Return the git commit, Python, the processor and library versions.

    Args:
        libraries: Names of installed distributions.
    """
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_clean": _git("status", "--porcelain") == "",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cpus": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }


def _processor() -> str | None:
    """Return the processor's name, where Linux tells it."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
