"""Where benchmarks keep what they measured."""

import pathlib
from typing import Any

from kunlun_jax.environment import environment
from kunlun_jax.files import json_lines, publish

__all__ = ["RESULTS", "ROOT", "environment", "write_json"]

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Write a result, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, json_lines(content))
