"""What the compile report reads out of PTX and final code, on code written by hand."""

import re

import pytest

from benchmarks import machine_code
from benchmarks.compile_results import Result
from benchmarks.kernel_cases import Case
from benchmarks.main_loop import innermost_loops, read_main_loop
from kunlun_jax.plan.absent_gpu import Compiled
from pallas_kernels.tile_choices import Tile

# Two warpgroups; a product of 64 x 32 x 16 and one of 64 x 64 x 16 in the loop, one ahead of it.
PTX = """
.target sm_90a
.visible .entry gdpa_backward_queries(
)
.reqntid 256, 1, 1
{
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f1}, %rd1, %rd2, 1, 1, 1, 0, 0;
$L__BB0_1:
	wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%f1}, %rd1, %rd2, 1, 1, 1, 0, 0;
	@%p3 bra 	$L__BB0_2;
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f1}, %rd1, %rd2, 1, 1, 1, 0, 0;
$L__BB0_2:
	@%p4 bra 	$L__BB0_1;
	ret;
}
"""
# The loop twice, as the assembler unrolls; a wait that spins out of line and comes back.
SASS = """
        /*0000*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0010*/                   HGMMA.64x32x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0020*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0030*/                   WARPGROUP.DEPBAR.LE gsb0, 0x0 ;
        /*0040*/                   FFMA R3, R3, R4, R5 ;
        /*0050*/                   FMUL R3, R3, R4 ;
        /*0060*/                   HGMMA.64x32x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0070*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0080*/                   FFMA R3, R3, R4, R5 ;
        /*0090*/                   MUFU.TANH R3, R3 ;
        /*00a0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00b0*/              @!P6 BRA 0xf0 ;
        /*00c0*/               @P0 BRA 0x10 ;
        /*00d0*/                   EXIT ;
        /*00e0*/                   NOP ;
        /*00f0*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P6, [UR70], R121 ;
        /*0100*/              @!P6 BRA 0xf0 ;
        /*0110*/                   BRA 0xc0 ;
        /*0120*/                   BRA 0x120;
"""
COMPLAINT = (
    "ptxas info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are "
    "serialized due to non wgmma instructions defining accumulator registers of a wgmma between "
    "start and end of the pipeline stage in the function '{}' in line 1794\n"
)
LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gdpa_backward_queries' for 'sm_90a'
ptxas info    : Function properties for gdpa_backward_queries
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 177 registers, used 1 barriers
"""
THUNKS = (
    "001: gdpa_backward_queries grid: [1, 4, 256] threads: [256, 1, 1]  shared_memory: 4096 bytes"
)
# 32 x 32 scores a turn, three products of depth 16: 49,152 multiply-adds.
CASE = Case("gdpa_backward_queries", "bf16", 16, 1024, 256, False, Tile(32, 32, 8, 2))


def _read(monkeypatch, log):
    run = {"ptxas": log, "cuobjdump": SASS}
    monkeypatch.setattr(machine_code, "_run", lambda program, *_: run[program])
    return machine_code.read(Compiled(None, PTX, THUNKS), CASE.kernel)


@pytest.mark.parametrize("name", ["gdpa_backward_queries", "gdpa_backward"])
def test_serialised_products_are_seen_although_they_are_named_first(monkeypatch, name):
    code = _read(monkeypatch, COMPLAINT.format(name) + LOG)
    assert code.serialized == (name == CASE.kernel)
    faults = Result("h200", ("9.0",), CASE, code, "").faults()
    assert any("one at a time" in fault for fault in faults) == (name == CASE.kernel)


def test_products_computed_twice_are_a_fault(monkeypatch):
    code = _read(monkeypatch, LOG)
    result = Result("h200", ("9.0",), CASE, code, "")
    # 2 warpgroups x (64 x 32 + 64 x 64) x 16 multiply-adds.
    assert result.duplication == 196_608 / 49_152
    assert any("4.00 times the products" in fault for fault in result.faults())
    # The section "default" is for other GPUs, too.
    assert Result("h200", ("default",), CASE, code, "").faults() == []
    assert Result.of(result.record()) == result


def test_a_turn_of_the_main_loop(monkeypatch):
    code = _read(monkeypatch, LOG)
    loop = code.loop
    assert loop.multiply_adds == 196_608
    assert loop.tensor_rows == 64
    assert (loop.fused, loop.unfused, loop.special, loop.barriers) == (1.0, 0.5, 0.5, 0.5)
    assert loop.products_at_once == 2
    # 12 of the loop itself and 3 of the wait, over two turns.
    assert loop.instructions == 7.5
    assert code.threads == 256


def test_the_shape_of_a_product_may_stand_in_a_register():
    mma = "tcgen05.mma.cta_group::1.kind::f16"
    ptx = f"""
.reqntid 128, 1, 1
$L__BB0_1:
	mov.b32 	%r7, 136381584;
	@%p25 {mma} [ %r1 + 0 ], %rd97, %rd98, %r7, %p24;
	mov.b32 	%r8, 69272720;
	@%p25 {mma} [ %r1 + 0 ], [ %r2 + 8 ], %rd98, %r8, %p24;
	bra.uni 	$L__BB0_1;
"""
    sass = """
        /*0000*/                   UTCHMMA gdesc[UR6], gdesc[UR4], tmem[UR8], idesc[UR9], UP0 ;
        /*0010*/                   UTCHMMA gdesc[UR6], gdesc[UR4], tmem[UR8], idesc[UR9], UP0 ;
        /*0020*/                   BRA 0x0 ;
"""
    loop = read_main_loop(ptx, sass)
    assert loop.multiply_adds == 128 * 128 * 16 + 64 * 128 * 16
    assert loop.tensor_rows == 64


def test_without_a_loop_there_is_nothing_to_count():
    assert read_main_loop(re.sub(r"\s@%p4 bra.*", "", PTX), SASS) is None


@pytest.mark.parametrize(
    ("flow", "wanted", "loops"),
    [
        ([[1], [2], [1, 3], [4]], [1], [[1, 2]]),
        # A loop in a loop: the inner one; the outer one where only that holds it.
        ([[1], [2], [2, 3], [1, 4]], [2], [[2]]),
        ([[1], [2], [2, 3], [1, 4]], [3], [[1, 2, 3]]),
        # Two ways back to one header are one loop.
        ([[1], [2], [1, 3], [1, 4]], [3], [[1, 2, 3]]),
        ([[1], [2], [3]], [1], []),
    ],
)
def test_innermost_loops(flow, wanted, loops):
    assert innermost_loops(flow, [node in wanted for node in range(len(flow))]) == loops
