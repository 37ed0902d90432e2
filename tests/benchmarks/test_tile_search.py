"""How tiles are ranked, on counts made up by hand."""

import pytest

from benchmarks import tile_search
from benchmarks.compile_results import Result
from benchmarks.kernel_cases import Case
from pallas_kernels.tile_choices import Tile
from tests.benchmarks import test_kernel_bounds

KERNEL = "window_attention_forward"
LOOP = test_kernel_bounds.LOOP._replace(
    instructions=512, multiply_adds=2 * 64 * 64 * 128, special=0, shared=0, barriers=2
)
CODE = test_kernel_bounds.CODE._replace(shared_bytes=50_000, threads=128, loop=LOOP)
TILE = Tile(64, 64, 4, 2)


def result(tile=TILE, gpu="h200", loop=LOOP, error="", **code):
    case = Case(KERNEL, "bf16", 128, 1024, 201, False, tile)
    made = None if error else CODE._replace(loop=loop, **code)
    return Result(gpu, ("9.0" if gpu == "h200" else "10.0",), case, made, error)


def test_clocks_are_of_instructions_and_products():
    # 512 x 128 instructions at 128 a clock; 2 x 2 x 64 x 64 x 128 operations at 790e12 a second.
    products = 4 * 64 * 64 * 128 / (790e12 / (1.83e9 * 132))
    assert tile_search.rank(result()).clocks == pytest.approx((512 + products) / 4.096)


def test_half_the_rows_take_b200_twice_as_long():
    half, full = (
        tile_search.rank(result(gpu="b200", loop=LOOP._replace(tensor_rows=rows))).clocks
        for rows in (64, 128)
    )
    issued = 512 / 4.096
    assert half - issued == pytest.approx(2 * (full - issued))


def test_warps_that_fit():
    # 4 by shared memory (51,024 of 233,472 bytes) and by registers (16,384 of 65,536).
    assert tile_search.resident_warps(result()) == 16
    assert tile_search.resident_warps(result(shared_bytes=100_000)) == 8
    assert tile_search.resident_warps(result(registers=255, shared_bytes=0)) == 8
    assert tile_search.resident_warps(result(registers=32, shared_bytes=0)) == 64
    assert tile_search.resident_warps(result(tensor_columns=256)) == 8


def test_the_order():
    fast = LOOP._replace(instructions=256)
    best_first = [
        result(loop=fast),
        result(loop=LOOP),
        result(loop=LOOP._replace(instructions=515), tile=Tile(64, 64, 4, 1)),  # the same clocks
        result(loop=LOOP, shared_bytes=100_000),
        result(loop=LOOP._replace(instructions=600)),
        result(loop=fast, spill_bytes=8),
        result(loop=fast, spill_bytes=8, serialized=True),
        result(error="no room"),
    ]
    places = {id(each): place for place, each in enumerate(best_first)}
    ranked = tile_search.in_order(best_first[::-1])
    assert [places[id(each)] for each in ranked] == list(range(len(best_first)))


def test_candidates_can_run_and_differ():
    like = result().case
    for kernel in ("gdpa_forward", "gdpa_backward", "gdpa_backward_keys", KERNEL):
        case = like._replace(kernel=kernel, keys=256)
        found = tile_search.launchable(case, tile_search.candidates(kernel))
        assert len(found) > 6
        assert len({each.code for each in found}) == len(found)


def test_the_table_is_among_what_is_searched(monkeypatch):
    def compiled(gpu, sections, case):
        return result(tile=case.tile)._replace(gpu=gpu, sections=sections, case=case)

    monkeypatch.setattr(tile_search, "compile_case", compiled)
    like = result().case
    found = tile_search.search("h200", like, threads=1)
    report = tile_search.report("h200", like, found, top=3)
    rows = report["ranking"]
    [place] = [number for number, row in enumerate(rows, 1) if row["in_table"]]
    assert report["place_of_table"] == place
    assert rows[place - 1]["tile"] == tile_search.table_tile("h200", like)
    assert {row["tile"].num_stages for row in rows} == {1, 2, 3}
