"""Tile sizes of the kernels, read from a table.

The table `tile_choices.json` is capability -> kernel -> entries:

    {"9.0": {"gdpa_forward": [
        {"itemsize": 2, "head_dim": 128, "keys": 128, "tile": [64, 128, 4, 3]}, ...

`itemsize` is the width of the inputs in bytes. `head_dim`, and where they stand `rows` and `keys`,
are the largest sizes that an entry is for; with `rotated` it is for window attention with or
without a rotation alone. The first entry that holds all of them is taken, and its `tile` is the
first fields of `Tile` in order; `query_gradient` stands beside it where it is not "last".

A capability without an entry that holds them takes one of the section "default": sizes for every
GPU from compute capability 8.0 on, and small enough where a block is granted only 99 KiB of shared
memory. `benchmarks/compile_report.py` judges the entries by what the compiler makes of them, and
`python -m pallas_kernels.tune` measures better ones; nothing is tuned inside jit.

"gdpa_backward" is the pass over tiles of keys: the only one where a block holds all keys, else the
sweep for dK and dV beside "gdpa_backward_queries". "seed_attention_backward" is the pass over tiles
of seeds, in the same manner.
"""

import contextlib
import contextvars
import functools
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

# capability -> kernel -> entries
Table = dict[str, dict[str, list[dict[str, Any]]]]

_capability: contextvars.ContextVar[str | None] = contextvars.ContextVar("capability", default=None)


class Tile(NamedTuple):
    """Sizes and compiler parameters of one kernel.

    Attributes:
        block_q: query rows of a tile.
        block_kv: key rows of a tile.
        num_warps: warps of 32 threads.
        num_stages: depth of the pipeline that loads ahead of the products.
        resident_bytes: keys and values that GDPA's forward pass may keep on the multiprocessor;
            without a meaning for the other kernels.
        query_gradient: what GDPA's backward pass does with dQ where a block holds all keys: "last",
            after dK; "first", with fewer registers, but on an H200 one product at a time; "apart",
            in a second kernel. Without a meaning for the other kernels.
    """

    block_q: int
    block_kv: int
    num_warps: int
    num_stages: int
    resident_bytes: int = 131_072
    query_gradient: str = "last"

    def within(self, rows: int, keys: int) -> "Tile":
        """Return the tile cut down to sequences that are shorter than its blocks.

        No block is cut below 64 rows, the least that the matrix units of H200 and B200 multiply: a
        smaller one would fall back on older instructions, and need more registers. Warps are cut
        with the block, down to the 4 that multiply together: too many for a tile, and several of
        them compute the same scores.
        """
        block_q, block_kv = min(self.block_q, _side(rows)), min(self.block_kv, _side(keys))
        cut = self.block_q * self.block_kv // (block_q * block_kv)
        warps = min(self.num_warps, max(4, self.num_warps // cut))
        return self._replace(block_q=block_q, block_kv=block_kv, num_warps=warps)


def _side(size: int) -> int:
    return max(64, 1 << (size - 1).bit_length())


def tile_of(entry: Mapping[str, Any]) -> Tile:
    """Return the tile of an entry of the table."""
    tile = Tile(*entry["tile"])
    return tile._replace(query_gradient=entry.get("query_gradient", tile.query_gradient))


@functools.cache
def table() -> Table:
    """Return the table: compute capability -> kernel -> entries."""
    text = resources.files("pallas_kernels").joinpath("tile_choices.json").read_text()
    return json.loads(text)


def as_json(sections: Table) -> str:
    """Return a table as text, one entry a line."""
    texts = []
    for capability, kernels in sections.items():
        lists = []
        for kernel, entries in kernels.items():
            lines = ",\n".join(f"   {json.dumps(entry)}" for entry in entries)
            lists.append(f"  {json.dumps(kernel)}: [\n{lines}\n  ]")
        texts.append(f" {json.dumps(capability)}: {{\n" + ",\n".join(lists) + "\n }")
    return "{\n" + ",\n".join(texts) + "\n}\n"


def capability() -> str:
    """Return the compute capability that tiles are chosen for, or "default" without a GPU."""
    return _capability.get() or _this_capability()


@contextlib.contextmanager
def choices_for(capability: str) -> Iterator[None]:
    """Choose tiles for a compute capability, such as "10.0", instead of this machine's."""
    token = _capability.set(capability)
    try:
        yield
    finally:
        _capability.reset(token)


def choose(kernel: str, like: Array, *, rows: int, keys: int, rotated: bool = False) -> Tile:
    """Return the tile of a kernel.

    Args:
        kernel: name of the kernel.
        like: an input, for its dtype and head dim (the last axis).
        rows: length of the sequence of queries, or the number of seeds.
        keys: keys that a row sees: all of them, or those of a window.
        rotated: whether window attention's backward pass turns its rows back.
    """
    head_dim, itemsize = like.shape[-1], like.dtype.itemsize
    sections = table()
    for section in (capability(), "default"):
        for entry in sections.get(section, {}).get(kernel, ()):
            fits = head_dim <= entry["head_dim"] and keys <= entry.get("keys", keys)
            fits = fits and rows <= entry.get("rows", rows)
            fits = fits and rotated == entry.get("rotated", rotated)
            if fits and entry["itemsize"] == itemsize:
                return tile_of(entry).within(rows, keys)
    raise LookupError(f"no tile for {kernel}: head dim {head_dim}, {itemsize} bytes, {keys} keys")


@functools.cache
def _this_capability() -> str:
    return str(getattr(jax.devices()[0], "compute_capability", "default"))
