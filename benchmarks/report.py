"""Where benchmarks keep what they measured."""

import json
import pathlib
from typing import Any

from kunlun_jax.environment import environment

__all__ = ["RESULTS", "ROOT", "environment", "write_json"]

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Write a result, by way of a temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
