"""The table of tile sizes: its form, and that it has an answer for everything."""

import re
from importlib import resources

import jax.numpy as jnp
import pytest

from pallas_kernels.tile_choices import Tile, as_json, choices_for, choose, table

KERNELS = [
    "gdpa_forward",
    "gdpa_backward",
    "gdpa_backward_queries",
    "window_attention_forward",
    "window_attention_backward_queries",
    "window_attention_backward_keys",
    "seed_attention_forward",
    "seed_attention_backward",
    "seed_attention_backward_keys",
]
ENTRIES = [
    pytest.param(kernel, entry, id=f"{section}-{kernel}-{number}")
    for section, kernels in table().items()
    for kernel, entries in kernels.items()
    for number, entry in enumerate(entries)
]
SIZES = [1, 15, 16, 17, 64, 65, 100, 128, 129, 256, 1000, 1024, 4096]


def is_power_of_two(number):
    return number > 0 and number & (number - 1) == 0


@pytest.mark.parametrize(("kernel", "entry"), ENTRIES)
def test_entry_is_well_formed(kernel, entry):
    assert kernel in KERNELS
    assert {"itemsize", "head_dim", "tile"} <= set(entry)
    known = {"itemsize", "head_dim", "rows", "keys", "rotated", "query_gradient", "tile"}
    assert set(entry) <= known
    assert entry.get("query_gradient", "last") in ("first", "last", "apart")
    assert kernel == "gdpa_backward" or "query_gradient" not in entry
    assert kernel.startswith("window_attention_backward") or "rotated" not in entry
    assert entry["itemsize"] in (2, 4)
    for name in ("head_dim", "rows", "keys"):
        size = entry.get(name, 16)
        assert is_power_of_two(size), name
        assert size >= 16, name
    tile = Tile(*entry["tile"])
    for block in (tile.block_q, tile.block_kv):
        assert is_power_of_two(block)
        assert 16 <= block <= 256
    assert tile.num_warps in (1, 2, 4, 8, 16)
    assert 1 <= tile.num_stages <= 5


def test_sections():
    assert set(table()["default"]) == set(KERNELS)
    for section in table():
        assert section == "default" or re.fullmatch(r"\d+\.\d", section)


def test_no_entry_is_hidden_by_an_earlier_one():
    unbounded = 2**30
    for kernels in table().values():
        for kernel, entries in kernels.items():
            for number, entry in enumerate(entries):
                for earlier in entries[:number]:
                    hidden = earlier["itemsize"] == entry["itemsize"]
                    hidden &= earlier.get("rotated") in (None, entry.get("rotated"))
                    for name in ("head_dim", "rows", "keys"):
                        limit = entry.get(name, unbounded)
                        hidden &= limit <= earlier.get(name, unbounded)
                    assert not hidden, (kernel, entry, earlier)


def test_file_is_as_written():
    text = resources.files("pallas_kernels").joinpath("tile_choices.json").read_text()
    assert text == as_json(table())


@pytest.mark.parametrize("capability", [*table(), "8.0"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_size_has_a_tile(kernel, dtype, capability):
    with choices_for(capability):
        for head_dim in (16, 32, 64, 128, 256):
            like = jnp.zeros(head_dim, dtype)
            for rows in SIZES:
                for keys in SIZES:
                    tile = choose(kernel, like, rows=rows, keys=keys)
                    for block, size in ((tile.block_q, rows), (tile.block_kv, keys)):
                        assert is_power_of_two(block)
                        assert 16 <= block < max(65, 2 * size)


def test_no_tile_beyond_the_largest_head_dim():
    with choices_for("default"), pytest.raises(LookupError, match="head dim 512, 2 bytes, 64 keys"):
        choose("gdpa_forward", jnp.zeros(512, jnp.bfloat16), rows=64, keys=64)


def test_a_capability_of_its_own_comes_before_the_default(monkeypatch):
    entries = {"9.0": [([64, 64, 4, 3], 32)], "default": [([32, 32, 4, 1], 256)]}
    sections = {
        capability: {"k": [{"itemsize": 2, "head_dim": h, "tile": tile} for tile, h in pairs]}
        for capability, pairs in entries.items()
    }
    monkeypatch.setattr("pallas_kernels.tile_choices.table", lambda: sections)
    sizes = {"rows": 100, "keys": 100}
    narrow, wide = (jnp.zeros(h, jnp.bfloat16) for h in (32, 64))
    with choices_for("9.0"):
        assert choose("k", narrow, **sizes) == Tile(64, 64, 4, 3)
        assert choose("k", wide, **sizes) == Tile(32, 32, 4, 1)
        with choices_for("10.0"):
            assert choose("k", narrow, **sizes) == Tile(32, 32, 4, 1)
        assert choose("k", narrow, **sizes) == Tile(64, 64, 4, 3)


def test_a_rotation_has_tiles_of_its_own(monkeypatch):
    entries = [
        {"itemsize": 2, "head_dim": 128, "rotated": True, "tile": [64, 128, 8, 2]},
        {"itemsize": 2, "head_dim": 128, "tile": [64, 64, 4, 2]},
    ]
    monkeypatch.setattr("pallas_kernels.tile_choices.table", lambda: {"default": {"k": entries}})
    like = jnp.zeros(64, jnp.bfloat16)
    with choices_for("default"):
        tiles = [choose("k", like, rows=512, keys=201, rotated=r) for r in (True, False)]
    assert tiles == [Tile(64, 128, 8, 2), Tile(64, 64, 4, 2)]


@pytest.mark.parametrize(
    ("sizes", "blocks"),
    [
        ((4096, 4096), (256, 128, 16)),
        ((256, 128), (256, 128, 16)),
        ((129, 65), (256, 128, 16)),
        ((128, 1000), (128, 128, 8)),
        ((1000, 64), (256, 64, 8)),
        ((1, 64), (64, 64, 4)),
        ((1, 1), (64, 64, 4)),
    ],
)
def test_cut_down_to_short_sequences_with_its_warps(sizes, blocks):
    tile = Tile(256, 128, 16, 3, 65536)
    assert tile.within(*sizes) == Tile(*blocks, 3, 65536)
    assert Tile(16, 32, 4, 1).within(*sizes) == Tile(16, 32, 4, 1)
