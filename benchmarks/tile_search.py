"""Rank the tiles that a kernel can take by what the compiler makes of them, without a GPU.

    pip install -e ".[aot]"
    python -m benchmarks.tile_search --gpu=h200 --kernel=gdpa_backward_keys --keys=256
    python -m benchmarks.tile_search --gpu=b200 --kernel=gdpa_backward --out=/tmp/tiles.json

Compiles candidates for one or more kernels at one shape in bf16, and prints them, best first, with
the place of the tile that the table gives. Pipelines of two stages are tried with every block; more
and fewer stages with the best of them. What ranks a tile, in this order:

1. faults: registers spilled, `wgmma` products one at a time, products computed twice, no matrix
   instruction of the GPU, more shared memory than there is;
2. clocks of a multiprocessor for 1000 scores: instructions issued, 128 threads a clock, and
   products, which on a B200 take twice as long on 64 rows as on 128; 2 % apart is the same;
3. warps that a multiprocessor holds, by registers, shared memory and TMEM columns: they hide what
   a block waits for;
4. barriers for 1000 scores;
5. stages.

`python -m pallas_kernels.tune` ranks by time where there is a GPU. A candidate takes 2 to 10
seconds of one core.
"""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp
from absl import app, flags

from benchmarks import kernel_cases
from benchmarks.compile_results import Result, compile_case, compilers, require_compiler
from benchmarks.kernel_bounds import ISSUE, RATES, product_rate
from benchmarks.kernel_cases import Case, table_name
from benchmarks.report import RESULTS, environment, write_json
from kunlun_jax.plan import absent_gpu
from pallas_kernels.costs import PRODUCTS
from pallas_kernels.tile_choices import Tile, choices_for, choose

_GPU = flags.DEFINE_list("gpu", ["h200"], f"Of {', '.join(RATES)}.")
_KERNEL = flags.DEFINE_list("kernel", [], f"Of {', '.join(PRODUCTS)}.")
_HEAD_DIM = flags.DEFINE_list("head_dim", ["128"], "Head dims.")
_ROWS = flags.DEFINE_integer("rows", 1024, "Queries or seeds.")
_KEYS = flags.DEFINE_integer("keys", 1024, "Keys, or those in the reach of a window.")
_ROTATED = flags.DEFINE_bool("rotated", False, "Window attention with ROTE.")
_THREADS = flags.DEFINE_integer("threads", 2, "Kernels to compile at the same time.")
_TOP = flags.DEFINE_integer("top", 10, "Tiles to print of each ranking.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "tile_search.json"), "Where the JSON goes.")

_BLOCKS, _WARPS, _RESIDENT = (16, 32, 64, 128, 256), (4, 8), (0, 131_072)
_ORDERS = ("last", "first")
# The rows of a tile's products are those of its keys in the kernels that sum over queries.
_ROWS_ARE_KEYS = ("gdpa_backward", "gdpa_backward_keys", "window_attention_backward_keys")
_ROWS_ARE_KEYS += ("seed_attention_backward", "seed_attention_backward_seeds")
_ROWS_ARE_KEYS += ("seed_attention_backward_keys",)
# Fewer rows than the matrix units multiply, more scores of a thread than its registers hold: these
# are not worth a try.
_LEAST_ROWS, _MOST_SCORES = 64, 64
_FIRST_STAGES, _OTHER_STAGES = 2, (1, 3)
# As many of the best tiles are tried with other stages.
_DEEPEN = 4
# Clocks that differ by less are the same.
_SAME = 1.02
# What a multiprocessor of either GPU holds: warps, blocks, registers, bytes of shared memory, of
# which each block costs 1024 more, and TMEM columns (B200).
_SM_WARPS, _SM_BLOCKS, _SM_REGISTERS, _SM_SHARED, _SM_COLUMNS = 64, 32, 65_536, 233_472, 512


@dataclasses.dataclass(frozen=True)
class Rank:
    """What a tile is ranked by.

    Attributes:
        faults: in words.
        clocks: of a multiprocessor for 1000 scores; infinite where nothing was compiled.
        warps: that a multiprocessor holds.
        barriers: for 1000 scores.
        stages: of the pipeline.
    """

    faults: tuple[str, ...]
    clocks: float
    warps: int
    barriers: float
    stages: int


def resident_warps(result: Result) -> int:
    """Return the warps of a compiled kernel that a multiprocessor holds at once."""
    code = result.code
    assert code is not None
    warps = code.threads // 32
    # Registers are given to a warp 256 at a time.
    of_warp = -(-code.registers * 32 // 256) * 256
    blocks = min(
        _SM_BLOCKS,
        _SM_WARPS // warps,
        _SM_REGISTERS // (of_warp * warps),
        _SM_SHARED // (code.shared_bytes + 1024),
    )
    if code.tensor_columns:
        blocks = min(blocks, _SM_COLUMNS // code.tensor_columns)
    return blocks * warps


def rank(result: Result) -> Rank:
    """Return what a compiled tile is ranked by."""
    code, case = result.code, result.case
    faults = result.faults(every_head_dim=True)
    if code is None or code.loop is None:
        return Rank(tuple(faults or ["no main loop"]), math.inf, 0, math.inf, case.tile.num_stages)
    rates, thousands = RATES[result.gpu], case.scores_of_turn / 1000
    of_clock = product_rate(code.loop, rates) / (rates.clock * rates.multiprocessors)
    clocks = 1000 * result.issues / ISSUE + 2 * code.loop.multiply_adds / thousands / of_clock
    barriers = code.loop.barriers / thousands
    return Rank(tuple(faults), clocks, resident_warps(result), barriers, case.tile.num_stages)


def in_order(results: Sequence[Result]) -> list[Result]:
    """Return compiled tiles, the best first."""
    ranks = {id(result): rank(result) for result in results}

    def hard(result: Result) -> tuple[bool, int, float]:
        found = ranks[id(result)]
        return found.clocks == math.inf, len(found.faults), found.clocks

    def soft(result: Result) -> tuple[float, ...]:
        found = ranks[id(result)]
        return -found.warps, round(found.barriers, 2), -found.stages, found.clocks

    ordered, group = [], []
    for result in sorted(results, key=hard):
        if group:
            *faults, least = hard(group[0])
            *others, clocks = hard(result)
            if others > faults or clocks > _SAME * least:
                ordered += sorted(group, key=soft)
                group = []
        group.append(result)
    return ordered + sorted(group, key=soft)


def candidates(kernel: str) -> list[Tile]:
    """Return the tiles to try with a kernel, all with the same number of stages."""
    kept = _RESIDENT if kernel == "gdpa_forward" else _RESIDENT[-1:]
    orders = _ORDERS if kernel == "gdpa_backward" else _ORDERS[:1]
    return [
        Tile(block_q, block_kv, warps, _FIRST_STAGES, resident, order)
        for block_q, block_kv, warps in itertools.product(_BLOCKS, _BLOCKS, _WARPS)
        for resident, order in itertools.product(kept, orders)
        if (block_kv if kernel in _ROWS_ARE_KEYS else block_q) >= _LEAST_ROWS
        and block_q * block_kv <= _MOST_SCORES * 32 * warps
    ]


def launchable(like: Case, tiles: Iterable[Tile]) -> list[Case]:
    """Return the cases of those tiles that the kernel can take at its sizes, each code once."""
    cases: dict[tuple, Case] = {}
    for tile in tiles:
        case = like._replace(tile=tile)
        if tile.within(like.rows, like.keys) == tile and kernel_cases.can_launch(case):
            cases.setdefault(case.code, case)
    return list(cases.values())


def table_tile(gpu: str, case: Case) -> Tile:
    """Return the tile that the table gives a case."""
    like = jnp.zeros((1, case.head_dim), kernel_cases.FORMATS[case.format][0])
    rotated = case.rotated and case.kernel in kernel_cases.ROTATING
    with choices_for(absent_gpu.GPUS[gpu].capability):
        return choose(
            table_name(case.kernel), like, rows=case.rows, keys=case.keys, rotated=rotated
        )


def search(gpu: str, like: Case, threads: int) -> list[Result]:
    """Compile candidates for a case, and its tile of the table; the best first."""
    own = (absent_gpu.GPUS[gpu].capability,)

    def ranked(cases: Sequence[Case], known: Sequence[Result]) -> list[Result]:
        codes = {result.case.code for result in known}
        new = [case for case in cases if case.code not in codes]
        with ThreadPoolExecutor(threads) as pool:
            results = [*known, *pool.map(lambda case: compile_case(gpu, own, case), new)]
        return in_order(results)

    tiles = [table_tile(gpu, like), *candidates(like.kernel)]
    found = ranked(launchable(like, tiles), [])
    best = [result.case.tile for result in found[:_DEEPEN]]
    deeper = [tile._replace(num_stages=n) for tile in best for n in _OTHER_STAGES]
    return ranked(launchable(like, deeper), found)


def record(result: Result, rank: Rank, is_table: bool) -> dict[str, Any]:
    """Return one line of the JSON."""
    code = result.code
    row = {"tile": result.case.tile, "in_table": is_table, **dataclasses.asdict(rank)}
    row["clocks"] = round(rank.clocks, 1) if rank.clocks < math.inf else None
    row["barriers"] = round(rank.barriers, 2) if rank.barriers < math.inf else None
    if code is not None:
        row |= {
            "instructions_per_score": round(result.issues, 2),
            "products_over_needed": round(result.duplication, 3),
            "registers": code.registers,
            "shared_bytes": code.shared_bytes,
            "tensor_columns": code.tensor_columns,
            "tensor_rows": code.loop and code.loop.tensor_rows,
        }
    return row


def _print(place: int, row: dict[str, Any]) -> None:
    tile = ",".join(str(part) for part in row["tile"])
    mark = "<- the table's" if row["in_table"] else ""
    if row["clocks"] is None:
        print(f"{place:4} {tile:30} {'; '.join(row['faults'])} {mark}", flush=True)
        return
    print(
        f"{place:4} {tile:30} {row['clocks']:7.0f} {row['instructions_per_score']:6.1f} "
        f"{row['products_over_needed']:5.2f} {row['tensor_rows']:4} {row['warps']:5} "
        f"{row['tensor_columns']:4} {row['barriers']:8.2f} {row['registers']:4}  "
        f"{'; '.join(row['faults'])} {mark}",
        flush=True,
    )


def report(gpu: str, like: Case, results: Sequence[Result], top: int) -> dict[str, Any]:
    """Print the top of a ranking, and return its JSON."""
    of_table = like._replace(tile=table_tile(gpu, like)).code
    rows = [record(r, rank(r), r.case.code == of_table) for r in results]
    place = 1 + [row["in_table"] for row in rows].index(True)
    print(
        f"\n{gpu} {like.kernel} H={like.head_dim} {like.rows} rows {like.keys} keys"
        f"{' rotated' * like.rotated}: the table's tile is number {place} of {len(rows)}\n"
        f"     {'tile':30} {'clocks':>7} {'issues':>6} {'dupl':>5} {'M':>4} {'warps':>5} "
        f"{'tmem':>4} {'barriers':>8} {'regs':>4}  faults"
    )
    for number, row in enumerate(rows, 1):
        if number <= top or row["in_table"]:
            _print(number, row)
    head = {"gpu": gpu, **like._asdict(), "place_of_table": place}
    del head["tile"]
    return {**head, "ranking": rows}


def read_searches(path: pathlib.Path) -> dict[tuple, dict[str, Any]]:
    """Return the searches that a file holds of the same compilers, by GPU, kernel and sizes."""
    content = json.loads(path.read_text()) if path.exists() else {"compilers": {}}
    if content["compilers"] != compilers():
        return {}
    return {_of(search): search for search in content["searches"]}


def _of(search: Mapping[str, Any]) -> tuple:
    return search["gpu"], *(search[field] for field in Case._fields if field != "tile")


def main(argv: list[str]) -> None:
    """Compile, print, write."""
    require_compiler(argv)
    if not _KERNEL.value or set(_KERNEL.value) - set(PRODUCTS):
        raise app.UsageError(f"--kernel: expected some of {', '.join(PRODUCTS)}")
    out = pathlib.Path(_OUT.value)
    known = read_searches(out)
    for gpu, kernel, dim in itertools.product(_GPU.value, _KERNEL.value, _HEAD_DIM.value):
        sizes = (_ROWS.value, _KEYS.value)
        rotated = _ROTATED.value and kernel in kernel_cases.ROTATING
        like = Case(kernel, "bf16", int(dim), *sizes, rotated, Tile(16, 16, 4, 1))
        found = report(gpu, like, search(gpu, like, _THREADS.value), _TOP.value)
        found["environment"] = environment(("jax", "jaxlib"))
        known[_of(found)] = found
        content = {"benchmark": "tile_search", "compilers": compilers()}
        write_json(out, content | {"searches": list(known.values())})


if __name__ == "__main__":
    app.run(main)
