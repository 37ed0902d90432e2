"""Where benchmarks keep what they measured."""

import json
import pathlib
from typing import Any

from kunlun_jax.environment import environment
from kunlun_jax.files import publish

__all__ = ["RESULTS", "ROOT", "environment", "write_json"]

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_WIDTH = 100  # of a line of JSON, where it can be broken


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Write a result, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, compact(json.loads(json.dumps(content))) + "\n")


def compact(content: Any, indent: int = 0) -> str:
    """Return JSON of which mappings and rows that fit share a line; of numbers, all of a list do.

    Args:
        content: Nested plain values.
        indent: Columns by which what follows a line break is moved.
    """
    line = json.dumps(content)
    items = list(content.values()) if isinstance(content, dict) else content
    is_flat = not isinstance(content, dict | list) or (
        isinstance(content, list) and not any(isinstance(item, dict | list) for item in items)
    )
    if is_flat or indent + len(line) <= _WIDTH:
        return line
    parts = [compact(item, indent + 1) for item in items]
    if isinstance(content, dict):
        parts = [f"{json.dumps(key)}: {part}" for key, part in zip(content, parts, strict=True)]
    start, end = "{}" if isinstance(content, dict) else "[]"
    margin = "\n" + " " * (indent + 1)
    return f"{start}{margin}{(',' + margin).join(parts)}{margin[:-1]}{end}"
