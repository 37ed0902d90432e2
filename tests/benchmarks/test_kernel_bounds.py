"""Estimated times: the arithmetic, on counts that are made up."""

import pytest

from benchmarks import gpu_session, kernel_bounds
from benchmarks.compile_results import Result
from benchmarks.kernel_bounds import Rates, kernel_seconds, least_and_most, tiles_in_windows
from benchmarks.machine_code import MachineCode
from benchmarks.main_loop import MainLoop
from benchmarks.roofline import Ceilings
from benchmarks.workloads import DIRECTIONS, WORKLOADS
from pallas_kernels.tile_choices import choices_for

LOOP = MainLoop(
    instructions=100.0,
    multiply_adds=1_000_000,
    tensor_rows=64,
    fused=0.0,
    unfused=0.0,
    special=10.0,
    shared=4.0,
    barriers=1.0,
    products_at_once=4,
)
CODE = MachineCode(
    registers=128,
    spill_bytes=0,
    shared_bytes=1024,
    tensor_columns=0,
    tensor_ptx={"wgmma": 4},
    tensor_sass={"HGMMA": 4},
    load_bytes=(16, 16),
    serialized=False,
    threads=256,
    loop=LOOP,
)
RATES = Rates(Ceilings(1e12, 1e9), multiprocessors=2, clock=1e6, full_rows=128)


@pytest.mark.parametrize("window", [0, 5, 100, 5000])
def test_tiles_of_windows_against_a_loop(window):
    rows, own, other = 300, 64, 32
    pairs = sum(
        any(
            abs(t - s) <= window
            for t in range(i, min(i + own, rows))
            for s in range(j, min(j + other, rows))
        )
        for i in range(0, rows, own)
        for j in range(0, rows, other)
    )
    assert tiles_in_windows(rows, window, own, other) == pairs


def _run_of(workload, direction):
    with choices_for("9.0"):
        return next(kernel_bounds.runs(workload, direction))


def test_seconds_of_each_resource():
    run = _run_of(WORKLOADS[0], "forward")
    run = run._replace(scores=10.0 * run.case.scores_of_turn, bytes=5e9)
    seconds = kernel_seconds(run, Result("h200", (), run.case, CODE, ""), RATES)
    # 10 turns; 2 multiprocessors at 1 MHz; half the rate, with 64 rows of 128.
    assert seconds == pytest.approx(
        {
            "products": 10 * 2e6 / 1e12 * 2,
            "instructions": 10 * 100 * 256 / 128 / 2e6,
            "special": 10 * 10 * 256 / 16 / 2e6,
            "shared": 10 * 4 * 8 * 512 / 128 / 2e6,
            "memory": 5.0,
        }
    )
    without = CODE._replace(loop=None)
    with pytest.raises(ValueError, match="gdpa_forward: no main loop"):
        kernel_seconds(run, Result("h200", (), run.case, without, ""), RATES)


def test_what_overlaps_and_what_does_not():
    seconds = {"products": 3.0, "instructions": 2.0, "special": 1.0, "shared": 1.0, "memory": 4.0}
    assert least_and_most(seconds, serialized=False) == (4.0, 5.0)
    assert least_and_most(seconds, serialized=True) == (5.0, 5.0)
    assert least_and_most(seconds | {"memory": 9.0}, serialized=True) == (9.0, 9.0)


@pytest.mark.parametrize("gpu", kernel_bounds.RATES)
def test_every_goal_has_a_line(gpu):
    capability = {"h200": "9.0", "b200": "10.0"}[gpu]
    for workload in (workload for workload in WORKLOADS if workload.is_target):
        for direction in DIRECTIONS:
            with choices_for(capability):
                cases = [run.case for run in kernel_bounds.runs(workload, direction)]
                results = {case: Result(gpu, (), case, CODE, "") for case in cases}
                row = kernel_bounds.row(gpu, workload, direction, results)
            assert row["least_rooflines"] <= row["most_rooflines"]
            assert len(row["kernels"]) == len(cases)
            assert row["goal"] or gpu == "b200"


def test_a_goal_between_the_bounds_is_open():
    verdicts = [kernel_bounds.verdict(1.0, 2.0, goal) for goal in (2.0, 1.5, 0.9, None)]
    assert verdicts == ["met", "open", "missed", ""]


def test_the_session_on_a_gpu_fits_its_time(tmp_path):
    steps = gpu_session.steps(tmp_path, dry_run=False)
    assert [step.name for step in steps] == ["contract", "goals", "tune"]
    assert sum(step.seconds for step in steps) <= 480
    for step in steps:
        assert any(str(tmp_path) in argument for argument in step.arguments)


def test_a_step_that_hangs_is_stopped_and_told(tmp_path):
    hangs = ["-c", "import time; print('so far', flush=True); time.sleep(60)"]
    ended = gpu_session.run(gpu_session.Step("hangs", hangs, 5), tmp_path)
    assert (ended["status"], ended["last_line"]) == ("stopped after 5 s", "so far")
    fails = gpu_session.run(gpu_session.Step("fails", ["-c", "exit('why')"], 60), tmp_path)
    assert (fails["status"], fails["last_line"]) == (1, "why")
