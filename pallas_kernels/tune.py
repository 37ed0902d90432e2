"""Measure which tiles are fastest on this machine's GPU, and write them into the table.

    python -m pallas_kernels.tune [--kernels=gdpa_forward,...] [--budget-seconds=540]
    cp tuned_tiles.json pallas_kernels/tile_choices.json    # when the report below is clean
    python -m benchmarks.compile_report

For every kernel, dtype, head dim and bucket of lengths: compile the candidates side by side, drop
those that do not compile or whose results differ from the XLA reference, time the others, and store
the fastest in this GPU's section of a table, beside all else that the package's has. The file is
written after every bucket; when the time budget runs out, the buckets that are left keep what they
have. 16-bit inputs, head dim 128 and the backward kernels come first: they are furthest from their
rooflines. A tile that spills or runs its products one at a time is named as such, with its time; it
may be the fastest all the same.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from pallas_kernels.tile_choices import Table, Tile, as_json, table
from pallas_kernels.timing import Budget
from pallas_kernels.trials import Bucket, Problem, problem_of, try_tiles

# Not the package's own table: a short measurement on one machine is reviewed before everyone gets
# it.
TABLE = pathlib.Path("tuned_tiles.json")
# "gdpa_backward" and "seed_attention_backward" are timed with the other sweep that they may need,
# at its best tile so far.
KERNELS = (
    "gdpa_backward_queries",
    "gdpa_backward",
    "window_attention_backward_queries",
    "window_attention_backward_keys",
    "seed_attention_backward_keys",
    "seed_attention_backward",
    "gdpa_forward",
    "window_attention_forward",
    "seed_attention_forward",
)
HEAD_DIMS = (128, 64, 32, 256)
ITEMSIZES = (2, 4)
# What the buckets of a kernel differ in: largest keys or rows, None for any; or the rotation.
_BOUNDS: dict[str, tuple[tuple[str, Any], ...]] = {
    "gdpa_forward": (("keys", 64), ("keys", 128), ("keys", 256), ("keys", None)),
    "gdpa_backward": (("keys", 256), ("keys", 128), ("keys", 64), ("keys", None)),
    "window_attention_backward_queries": (("rotated", True), ("rotated", False)),
    "window_attention_backward_keys": (("rotated", True), ("rotated", False)),
    "seed_attention_forward": (("rows", 32), ("rows", 64), ("rows", None)),
    "seed_attention_backward": (("rows", 32), ("rows", 64), ("rows", None)),
}
_BLOCKS = ((32, 32), (32, 64), (64, 32), (64, 64), (64, 128), (128, 64), (128, 128))
# With which one tile holds all keys, or all seeds.
_WIDE = {
    "gdpa_backward": ((32, 128), (32, 256), (64, 256)),
    "seed_attention_backward": ((128, 32),),
}
_STAGES = (1, 2, 3)
# GDPA's forward pass: keys and values loaded anew for every tile of queries, or kept; the latter
# is the default, which has no meaning for the other kernels.
_RESIDENT_BYTES = (0, 131_072)
# Shared memory of a multiprocessor, less what the compiler needs; Ampere to Blackwell.
_SHARED_BYTES = 220_000
# Times that are closer than this are the same; the smaller tile is taken.
_SAME = 0.01


def buckets(kernels: Sequence[str], head_dims: Sequence[int]) -> list[Bucket]:
    """Return what to tune, in order of importance."""
    return [
        Bucket(kernel, itemsize, head_dim, **{side: bound})
        for itemsize in ITEMSIZES
        for head_dim in head_dims
        for kernel in kernels
        for side, bound in _BOUNDS.get(kernel, (("keys", None),))
    ]


def candidates(bucket: Bucket) -> list[Tile]:
    """Return the tiles worth a try, small ones first; none is cut down by the bucket's sizes."""
    blocks = sorted(_BLOCKS + _WIDE.get(bucket.kernel, ()), key=lambda block: block[0] * block[1])
    resident = _RESIDENT_BYTES if bucket.kernel == "gdpa_forward" else _RESIDENT_BYTES[-1:]
    orders = ("last", "first", "apart") if bucket.kernel == "gdpa_backward" else ("last",)
    tiles = [
        Tile(block_q, block_kv, warps, stages, kept, order)
        for block_q, block_kv in blocks
        for warps in _warps(block_q * block_kv)
        for stages in _STAGES
        for kept in resident
        # Where a block does not hold all keys, dQ is apart anyway.
        for order in (orders if block_kv >= bucket.num_keys else ("last",))
    ]
    return [
        tile
        for tile in tiles
        if tile.within(bucket.num_rows, bucket.num_keys) == tile
        and _loaded_bytes(tile, bucket) <= _SHARED_BYTES
        and _kept_bytes(tile, bucket) <= tile.resident_bytes
    ]


def _warps(pairs: int) -> tuple[int, ...]:
    """Return the warps worth a try for a tile of so many scores, 16 to 64 a thread."""
    return (4,) if pairs < 64 * 64 else (4, 8) if pairs < 128 * 128 else (8,)


def _kept_bytes(tile: Tile, bucket: Bucket) -> int:
    """Return what must fit for GDPA's forward pass to keep it; without a choice, nothing."""
    if bucket.kernel != "gdpa_forward" or not tile.resident_bytes:
        return 0
    return 2 * bucket.num_keys * bucket.head_dim * bucket.itemsize


def _loaded_bytes(tile: Tile, bucket: Bucket) -> int:
    rows = (tile.block_q + tile.block_kv) * max(1, tile.num_stages - 1)
    return rows * bucket.head_dim * bucket.itemsize


def fastest(seconds: Mapping[Tile, float]) -> Tile | None:
    """Return the first tile that is as fast as the fastest; None if there is none."""
    if not seconds:
        return None
    best = min(seconds.values())
    return next(tile for tile, time in seconds.items() if time <= (1 + _SAME) * best)


def merged(entries: Sequence[dict[str, Any]], bucket: Bucket, tile: Tile) -> list[dict[str, Any]]:
    """Return a kernel's entries with the bucket's replaced; tighter bounds stand first."""
    new = bucket.entry(tile)
    others = [entry for entry in entries if _bounds(entry) != _bounds(new)]
    return sorted([*others, new], key=_bounds)


def _bounds(entry: Mapping[str, Any]) -> tuple[int | float, ...]:
    unbounded = float("inf")
    sides = (entry.get("keys", unbounded), entry.get("rows", unbounded))
    rotated = {True: 0, False: 1, None: 2}[entry.get("rotated")]
    return (entry["itemsize"], entry["head_dim"], *sides, rotated)


def tune(
    todo: Sequence[Bucket],
    sections: Table,
    capability: str,
    *,
    measure: Callable[[Bucket, Sequence[Tile]], Mapping[Tile, float]],
    save: Callable[[Table], None],
    budget: Budget,
) -> list[Bucket]:
    """Tune the buckets in order; `sections` is changed in place.

    Args:
        todo: what to tune.
        sections: the table.
        capability: the section that is filled.
        measure: returns the seconds of the candidates that work.
        save: called with the table after every bucket.
        budget: no bucket is begun that would not fit it if it took as long as the longest so far.

    Returns:
        The buckets that found no time.
    """
    section = sections.setdefault(capability, {})
    longest = 0.0
    for index, bucket in enumerate(todo):
        before = budget.left
        if before <= longest:
            return list(todo[index:])
        tile = fastest(measure(bucket, candidates(bucket)))
        if tile is not None:
            section[bucket.kernel] = merged(section.get(bucket.kernel, ()), bucket, tile)
            save(sections)
        longest = max(longest, before - budget.left)
    return []


def _measure_on(
    capability: str, budget: Budget
) -> Callable[[Bucket, Sequence[Tile]], dict[Tile, float]]:
    def measure(bucket: Bucket, tiles: Sequence[Tile]) -> dict[Tile, float]:
        problem: Problem = problem_of(bucket, "triton")
        section = table()[capability]
        found = try_tiles(problem, tiles, section, workers=os.cpu_count() or 1, budget=budget)
        for tile, trial in found.items():
            print(f"{bucket} {tuple(tile)}: {trial}", flush=True)
        seconds = {tile: trial.seconds for tile, trial in found.items() if trial.seconds}
        best = fastest(seconds)
        print(f"{bucket}: {tuple(best)}: {found[best]}" if best else f"{bucket}: no tile works")
        return seconds

    return measure


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pallas_kernels.tune", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kernels", default=",".join(KERNELS), help="names, with commas between")
    parser.add_argument("--head-dims", default=",".join(map(str, HEAD_DIMS)))
    parser.add_argument("--budget-seconds", type=float, default=540.0)
    parser.add_argument("--table", type=pathlib.Path, default=TABLE, help="file that is written")
    arguments = parser.parse_args(argv)
    arguments.kernels = arguments.kernels.split(",")
    arguments.head_dims = [int(text) for text in arguments.head_dims.split(",")]
    unknown = sorted(set(arguments.kernels) - set(KERNELS))
    if unknown:
        parser.error(f"--kernels: expected some of {', '.join(KERNELS)}, got {', '.join(unknown)}")
    return arguments


def main(argv: Sequence[str]) -> None:
    """Tune on this machine's GPU; exits with status 1 where there is none."""
    arguments = _parse(argv)
    # The references are compiled once for every bucket, and their time does not count.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    device = jax.devices()[0]
    if device.platform != "gpu":
        sys.exit(f"no GPU here to tune for: JAX finds {device.device_kind} alone")
    capability = str(getattr(device, "compute_capability", ""))
    budget = Budget(arguments.budget_seconds)
    left = tune(
        buckets(arguments.kernels, arguments.head_dims),
        table(),
        capability,
        measure=_measure_on(capability, budget),
        save=lambda sections: _save(arguments.table, sections),
        budget=budget,
    )
    if left:
        print(f"no time for {len(left)} buckets, the first of which is {left[0]}")


def _save(path: pathlib.Path, sections: Table) -> None:
    """Write the table by way of a temporary file, without what is tried meanwhile."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(as_json(sections))
    temporary.replace(path)


if __name__ == "__main__":
    main(sys.argv[1:])
