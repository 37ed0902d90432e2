"""What a checkpoint has to hold: which run it is of, where in the data, and every leaf's checksum.

Storage gives back whatever lies on the disk. A flipped bit in a parameter is a parameter, and one
in the position is a position; only a checksum that was taken from memory tells them apart.

A leaf's checksum is a sum over its elements,

    sum_i bits(x_i) w(i)  mod 2^64,   w(i) = product over the dimensions d of w_d(i_d), all odd,

so it does not matter how the leaf is cut: every process adds up what its own devices hold, and a
state that was saved on one number of devices is verified on any other. One changed element always
changes the sum; several cancel out with a probability of about 2^-64.
"""

import hashlib
from typing import Any

import jax
import numpy as np

from kunlun_jax.files import json_sha256
from kunlun_jax.hosts.processes import is_first, sum_over_processes

_BLOCK = 2**18  # elements that are widened to 64 bits at once


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
        state: Tree of arrays; all processes call this together.
        identity: What has to agree between two runs that share checkpoints.
        position: State of the data iterator.
        metrics: Validation metrics of this step, None if it was not evaluated.

    Returns:
        JSON-serialisable; "sha256" is the checksum of all the rest.
    """
    sums = _checksums(state)
    content = {
        "identity": identity,
        "position": position,
        "metrics": metrics,
        "leaves": {
            name: {"type": _type(leaf), "checksum": sums[name]}
            for name, leaf in _named_leaves(state)
        },
    }
    return {**content, "sha256": json_sha256(content)}


def verify_manifest(manifest: Any) -> dict[str, Any]:
    """Return a manifest that was read back, unless it is damaged.

    Raises:
        ManifestError: If it is not what `make_manifest` returned.
    """
    if not isinstance(manifest, dict) or "sha256" not in manifest:
        raise ManifestError("the manifest is damaged: expected a mapping with its own checksum")
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    expected, got = manifest["sha256"], json_sha256(content)
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
    """Compare every leaf with its checksum; all processes call this together.

    Args:
        state: The restored state, of the layout that the manifest describes.
        manifest: Its manifest.

    Raises:
        ManifestError: On the first leaf that differs; names it.
    """
    sums = _checksums(state)
    for name, leaf in _named_leaves(state):
        saved = manifest["leaves"][name]
        # The checkpoints of one process once had SHA-256.
        kind, got = ("checksum", sums[name]) if "checksum" in saved else ("sha256", _sha256(leaf))
        if saved[kind] != got:
            raise ManifestError(f"{name} is damaged: expected {kind} {saved[kind]}, got {got}")


def _named_leaves(state: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    ]


def _type(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _checksums(state: Any) -> dict[str, str]:
    """Return every leaf's checksum, as 16 hexadecimal digits."""
    names, leaves = zip(*_named_leaves(state), strict=True)
    sums = sum_over_processes(np.asarray([_held_sum(leaf) for leaf in leaves], np.uint64))
    return {name: f"{total:016x}" for name, total in zip(names, sums.tolist(), strict=True)}


def _held_sum(leaf: Any) -> int:
    """Add up what this process holds of a leaf, and no other process does too."""
    if not isinstance(leaf, jax.Array):
        return _sum(np.asarray(leaf), [0] * np.ndim(leaf)) if is_first() else 0
    total = 0
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            starts = [index.start or 0 for index in shard.index]
            total += _sum(np.asarray(shard.data), starts)
    return total % 2**64


def _sum(part: np.ndarray, starts: list[int]) -> int:
    """Add up a part of an array that begins at these coordinates."""
    bits = part.view(f"u{part.dtype.itemsize}")
    if not bits.ndim:
        return int(bits)
    first, *rest = (
        _weights(dimension, start, size)
        for dimension, (start, size) in enumerate(zip(starts, bits.shape, strict=True))
    )
    rows = max(1, _BLOCK // max(1, bits[:1].size))
    total = 0
    for begin in range(0, len(bits), rows):
        block = bits[begin : begin + rows].astype(np.uint64)
        for weights in reversed(rest):
            block = block @ weights
        total += int(block @ first[begin : begin + rows])
    return total % 2**64


def _weights(dimension: int, start: int, size: int) -> np.ndarray:
    """Return the odd 64-bit weights of coordinates start .. start + size - 1: SplitMix64."""
    x = np.arange(start + 1, start + 1 + size, dtype=np.uint64) + np.uint64(dimension << 56)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)


def _sha256(leaf: Any) -> str:
    # As bytes: bfloat16 is no type of NumPy's own, and its arrays export no buffer.
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return hashlib.sha256(content.data).hexdigest()
