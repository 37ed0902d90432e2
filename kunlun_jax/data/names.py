"""Which names a data set may give: each becomes part of settings, parameters, metrics and files.

| name of | becomes | so it may not hold |
|---|---|---|
| anything | keys of shards, summaries, cards and messages | control characters; a blank at an end |
| a task | keys of metrics, `val/<task>/auc_roc` | `/` and `.` as well |
| a stream | settings, `config.model.streams["<stream>"]`; parameters, `<stream>_encoder`; and \
`--events=<stream>=FILES` | all but letters, digits, `_` and `-` |

A name of a stream that a ConfigDict, which holds its settings, has as an attribute, such as `items`
or `__init__`, would hide them from flags, and cannot be one.
"""

import unicodedata
from typing import Any

MAX_LENGTH = 100
# The attributes of a ConfigDict, but for those that begin with "_".
_ATTRIBUTES = {
    "allow_dotted_keys", "convert_dict", "copy_and_resolve_references", "eq_as_configdict",
    "get", "get_oneway_ref", "get_ref", "get_type", "ignore_type", "is_locked",
    "is_type_safe", "items", "iteritems", "iterkeys", "itervalues", "keys", "lock", "pop",
    "setdefault", "to_dict", "to_json", "to_json_best_effort", "to_yaml", "unlock",
    "unlocked", "update", "update_from_flattened_dict", "update_from_multiple_configs",
    "values",
}  # fmt: skip


def name_fault(name: Any) -> tuple[str, str] | None:
    """Return what is wrong with a name of whatever kind, as (expected, got); None if nothing is.

    Args:
        name: What should be a name.
    """
    if not isinstance(name, str):
        return "a name, a text", f"{name!r:.60}"
    if not 0 < len(name) <= MAX_LENGTH:
        return f"a name of 1 .. {MAX_LENGTH} characters", _short(name)
    if not name.isprintable() or name != name.strip():
        return "a name of printable characters, without a blank at an end", _short(name)
    return None


def task_fault(name: Any) -> tuple[str, str] | None:
    """Return what is wrong with the name of a task, likewise."""
    fault = name_fault(name)
    if fault is None and set(name) & set("/."):
        return "a name without '/' and '.', which part the keys of metrics", _short(name)
    return fault


def stream_fault(name: Any) -> tuple[str, str] | None:
    """Return what is wrong with the name of a stream, likewise."""
    fault = name_fault(name)
    if fault is not None:
        return fault
    # L, M, N: letters of any script, the marks that belong to them, digits.
    if not all(unicodedata.category(c)[0] in "LMN" or c in "_-" for c in name):
        return "a name of letters, digits, '_' and '-'", _short(name)
    if name.startswith("_") or name in _ATTRIBUTES:
        return "a name that does not begin with '_' and is no method of a ConfigDict", _short(name)
    return None


def _short(name: str) -> str:
    return repr(name) if len(name) <= 60 else f"{name[:60]!r}... of {len(name)} characters"
