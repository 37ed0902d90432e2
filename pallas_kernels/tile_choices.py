"""Tile sizes of the kernels, read from a table.

The table `tile_choices.json` has one list of entries for each compute capability and kernel. An
entry applies up to its head dim and its number of keys, for inputs of its width in bytes; the first
that applies is taken. The section "default" is for every other GPU: sizes that spill no register
and fit the shared memory of each of them (`benchmarks/compile_report.py` shows it). Entries under
a compute capability are measured by `python -m pallas_kernels.tune`; nothing is tuned inside jit.
"""

import contextlib
import contextvars
import functools
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

_capability: contextvars.ContextVar[str | None] = contextvars.ContextVar("capability", default=None)


class Tile(NamedTuple):
    """Sizes and compiler parameters of one kernel.

    Attributes:
        block_q: query rows of a tile.
        block_kv: key rows of a tile.
        num_warps: warps of 32 threads.
        num_stages: depth of the pipeline that loads ahead of the products.
    """

    block_q: int
    block_kv: int
    num_warps: int
    num_stages: int

    def within(self, rows: int, keys: int) -> "Tile":
        """Return the tile cut down to sequences that are shorter than its blocks."""
        block_q = min(self.block_q, _side(rows))
        block_kv = min(self.block_kv, _side(keys))
        small = max(block_q, block_kv) <= 64 and (block_q, block_kv) != self[:2]
        return Tile(block_q, block_kv, min(self.num_warps, 4 if small else 8), self.num_stages)


def _side(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


@functools.cache
def table() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return the table: compute capability -> kernel -> entries."""
    text = resources.files("pallas_kernels").joinpath("tile_choices.json").read_text()
    return json.loads(text)


@contextlib.contextmanager
def choices_for(capability: str) -> Iterator[None]:
    """Choose tiles for a compute capability, such as "10.0", instead of this machine's."""
    token = _capability.set(capability)
    try:
        yield
    finally:
        _capability.reset(token)


def choose(kernel: str, like: Array, *, rows: int, keys: int) -> Tile:
    """Return the tile of a kernel.

    Args:
        kernel: name of the kernel.
        like: an input, for its dtype and head dim (the last axis).
        rows: length of the sequence of queries, or the number of seeds.
        keys: keys that a row sees: all of them, or those of a window.
    """
    head_dim, itemsize = like.shape[-1], like.dtype.itemsize
    sections = table()
    for section in (_capability.get() or _this_capability(), "default"):
        for entry in sections.get(section, {}).get(kernel, ()):
            fits = head_dim <= entry["head_dim"] and keys <= entry.get("keys", keys)
            fits = fits and rows <= entry.get("rows", rows)
            if fits and entry["itemsize"] == itemsize:
                return Tile(*entry["tile"]).within(rows, keys)
    raise LookupError(f"no tile for {kernel}: head dim {head_dim}, {itemsize} bytes, {keys} keys")


@functools.cache
def _this_capability() -> str:
    return str(getattr(jax.devices()[0], "compute_capability", "default"))
