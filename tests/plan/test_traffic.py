"""Bytes read and written, on a program written by hand."""

from kunlun_jax.plan.traffic import traffic

HLO = """HloModule jit_step, is_scheduled=true

%fused_lookup (param_0: bf16[1000,8], param_1: s32[4]) -> bf16[4,8] {
  %param_0 = bf16[1000,8]{1,0} parameter(0)
  %param_1 = s32[4]{0} parameter(1)
  ROOT %gather.1 = bf16[4,8]{1,0} gather(%param_0, %param_1), offset_dims={1}
}

%fused_update (param_0.1: bf16[1000,8], param_1.1: s32[4], param_2: bf16[4,8]) -> bf16[1000,8] {
  %param_0.1 = bf16[1000,8]{1,0} parameter(0)
  %param_1.1 = s32[4]{0} parameter(1)
  %param_2 = bf16[4,8]{1,0} parameter(2)
  ROOT %scatter.1 = bf16[1000,8]{1,0} scatter(%param_0.1, %param_1.1, %param_2), to_apply=%add
}

%fused_split (param_0.2: bf16[4,24]) -> (bf16[4,8], bf16[4,8]) {
  %param_0.2 = bf16[4,24]{1,0} parameter(0)
  %slice.1 = bf16[4,8]{1,0} slice(%param_0.2), slice={[0:4], [0:8]}
  %slice.2 = bf16[4,8]{1,0} slice(%param_0.2), slice={[0:4], [8:16]}
  ROOT %tuple.1 = (bf16[4,8]{1,0}, bf16[4,8]{1,0}) tuple(%slice.1, %slice.2)
}

%body (state: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %state = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%state), index=1
  %i = s32[] get-tuple-element(%state), index=0
  %copy.1 = f32[4,8]{1,0} copy(%x)
  ROOT %next = (s32[], f32[4,8]{1,0}) tuple(%i, %copy.1)
}

%condition (state.1: (s32[], f32[4,8])) -> pred[] {
  %state.1 = (s32[], f32[4,8]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (table: bf16[1000,8], ids: s32[4], rows: bf16[4,24]) -> bf16[1000,8] {
  %table = bf16[1000,8]{1,0} parameter(0)
  %ids = s32[4]{0} parameter(1)
  %rows = bf16[4,24]{1,0} parameter(2)
  %lookup = bf16[4,8]{1,0} fusion(%table, %ids), kind=kLoop, calls=%fused_lookup
  %split = (bf16[4,8]{1,0}, /*index=1*/bf16[4,8]{1,0}) fusion(%rows), kind=kLoop, calls=%fused_split
  %q = bf16[4,8]{1,0} get-tuple-element(%split), index=0
  %k = bf16[4,8]{1,0} get-tuple-element(%split), index=1
  %attend = bf16[4,8]{1,0} custom-call(%q, %k), custom_call_target="__gpu$xla.gpu.triton"
  %gemm = f32[4,8]{1,0} custom-call(%attend, %lookup), custom_call_target="__cublas$lt$matmul"
  %zero = s32[] constant(0)
  %loop.0 = (s32[], f32[4,8]{1,0}) tuple(%zero, %gemm)
  %loop = (s32[], f32[4,8]{1,0}) while(%loop.0), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %sent = f32[4,8]{1,0} get-tuple-element(%loop), index=1
  %sum-start = f32[4,8]{1,0} all-reduce-start(%sent), to_apply=%add
  %sum = f32[4,8]{1,0} all-reduce-done(%sum-start)
  ROOT %update = bf16[1000,8]{1,0} fusion(%table, %ids, %k), kind=kInput, calls=%fused_update
}
"""


def test_every_instruction_counts_what_it_moves():
    rows, ids = 4 * 8 * 2, 4 * 4  # of bf16, of s32
    assert traffic(HLO) == {
        # Rows out of the table and into the result; new rows and ids in, rows out.
        "gathers, scatters, sorts": {"count": 2, "bytes": (2 * rows + ids) + (2 * rows + 2 * ids)},
        # Two of three parts of the rows; a loop's copy, three times.
        "other passes": {"count": 4, "bytes": 4 * rows + 3 * 2 * (2 * rows)},
        "attention kernels": {"count": 1, "bytes": 3 * rows},
        "products": {"count": 1, "bytes": 2 * rows + 2 * rows},
        "collectives": {"count": 1, "bytes": 2 * (2 * rows)},
    }
