"""What a checkpoint has to hold: which run it is of, where in the data, and every leaf's checksum.

Storage gives back whatever lies on the disk. A flipped bit in a parameter is a parameter, and one
in the position is a position; only a checksum that was taken from memory tells them apart.
"""

import hashlib
import json
from typing import Any

import jax
import numpy as np


class ManifestError(ValueError):
    """A manifest that is damaged, or a state that is not the one it was written for."""


def make_manifest(
    state: Any,
    *,
    identity: dict[str, Any],
    position: dict[str, Any],
    metrics: dict[str, float] | None,
) -> dict[str, Any]:
    """Describe a state before it is saved.

    Args:
        state: Tree of arrays, each wholly on this process's devices.
        identity: What has to agree between two runs that share checkpoints.
        position: State of the data iterator.
        metrics: Validation metrics of this step, None if it was not evaluated.

    Returns:
        JSON-serialisable; "sha256" is the checksum of all the rest.
    """
    content = {
        "identity": identity,
        "position": position,
        "metrics": metrics,
        "leaves": {
            name: {"type": _type(leaf), "sha256": _leaf_sha256(leaf)}
            for name, leaf in _named_leaves(state)
        },
    }
    return {**content, "sha256": _json_sha256(content)}


def verify_manifest(manifest: Any) -> dict[str, Any]:
    """Return a manifest that was read back, unless it is damaged.

    Raises:
        ManifestError: If it is not what `make_manifest` returned.
    """
    if not isinstance(manifest, dict) or "sha256" not in manifest:
        raise ManifestError("the manifest is damaged: expected a mapping with its own checksum")
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    expected, got = manifest["sha256"], _json_sha256(content)
    if expected != got:
        raise ManifestError(f"the manifest is damaged: expected SHA-256 {expected}, got {got}")
    return manifest


def layout(state: Any) -> dict[str, str]:
    """Return dtype and shape of every leaf by its name, as "float32[8,3]"."""
    return {name: _type(leaf) for name, leaf in _named_leaves(state)}


def saved_layout(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the `layout` of the state that a manifest describes."""
    return {name: leaf["type"] for name, leaf in manifest["leaves"].items()}


def verify_leaves(state: Any, manifest: dict[str, Any]) -> None:
    """Compare every leaf with its checksum.

    Args:
        state: The restored state, of the layout that the manifest describes.
        manifest: Its manifest.

    Raises:
        ManifestError: On the first leaf that differs; names it.
    """
    for name, leaf in _named_leaves(state):
        expected, got = manifest["leaves"][name]["sha256"], _leaf_sha256(leaf)
        if expected != got:
            raise ManifestError(f"{name} is damaged: expected SHA-256 {expected}, got {got}")


def first_difference(expected: Any, got: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """Return the path to, and the two values of, the first place where nested mappings differ."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(set(expected) | set(got)):
            place = f"{where}.{key}" if where else key
            if key not in expected or key not in got:
                return place, expected.get(key, "nothing"), got.get(key, "nothing")
            difference = first_difference(expected[key], got[key], place)
            if difference:
                return difference
        return None
    return None if expected == got else (where, expected, got)


def _named_leaves(state: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]


def _type(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _leaf_sha256(leaf: Any) -> str:
    # As bytes: bfloat16 is no type of NumPy's own, and its arrays export no buffer.
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return hashlib.sha256(content.data).hexdigest()


def _json_sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
