import dataclasses
import itertools
import json

import pytest

from benchmarks import kernel_measurements, kernel_table, workloads
from benchmarks.kernel_measurements import KernelError
from benchmarks.roofline import Ceilings, Cost
from benchmarks.workloads import DRY, WORKLOADS, Workload, cost
from tests.benchmarks.test_train_step import dry_run

GDPA = Workload("gdpa", batch=2, rows=3, keys=4, heads=5, head_dim=8, is_target=True)
WINDOW = Workload("window", batch=1, rows=4, keys=4, heads=1, head_dim=8, window=1)
SEED = Workload("seed", batch=2, rows=3, keys=4, heads=1, head_dim=8)


def test_gdpa_counted_by_hand():
    # 2 x 3 x 4 pairs, 5 heads, 8 wide, 2 products; a row is 80 bytes: q, o and twice 8 k, v.
    assert cost(GDPA, "forward") == Cost(4 * 24 * 40, 80 * (6 + 6 + 8 + 8))
    # q, dO, dQ; k, v, dK, dV.
    assert cost(GDPA, "backward") == Cost(10 * 24 * 40, 80 * (3 * 6 + 4 * 8))


def test_window_counted_by_hand():
    # Rows see 2, 3, 3, 2 keys; a row is 16 bytes; 4 logarithms.
    assert cost(WINDOW, "forward") == Cost(4 * 10 * 8, 16 * 4 * 4 + 16)
    # q, k, v, o, dO read, dQ, dK, dV written.
    assert cost(WINDOW, "backward") == Cost(10 * 10 * 8, 16 * 8 * 4 + 16)
    rotated = dataclasses.replace(WINDOW, rotated=True)
    assert cost(rotated, "forward").bytes == cost(WINDOW, "forward").bytes + 4 * 2 * 4


def test_seeds_counted_by_hand():
    # 3 seeds that the batch shares, 8 keys and values, 6 results, 6 logarithms.
    assert cost(SEED, "forward") == Cost(4 * 24 * 8, 16 * (3 + 16 + 6) + 24)
    # Seeds, k, v, o, dO read; the seeds' gradient, dK, dV written.
    assert cost(SEED, "backward") == Cost(10 * 24 * 8, 16 * (3 + 16 + 12 + 3 + 16) + 24)


def test_padding_is_written_but_not_read():
    half = dataclasses.replace(GDPA, batch=64, lengths="half")
    full = dataclasses.replace(half, lengths="full")
    rows = int(half.row_lengths.sum())
    assert 0 < rows < 64 * 3
    assert cost(half, "forward").flops == cost(full, "forward").flops * rows / (64 * 3)
    assert cost(full, "forward").bytes - cost(half, "forward").bytes == 80 * (64 * 3 - rows)


def test_the_roofline_is_the_slower_of_the_two():
    ceilings = Ceilings(flops_per_second=100.0, bytes_per_second=10.0)
    assert ceilings.seconds(Cost(300.0, 20.0)) == 3.0
    assert ceilings.bound(Cost(300.0, 20.0)) == "arithmetic"
    assert ceilings.seconds(Cost(300.0, 40.0)) == 4.0
    assert ceilings.bound(Cost(300.0, 40.0)) == "memory"


def test_workloads_have_names_of_their_own():
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS)
    targets = [workload for workload in WORKLOADS if workload.is_target]
    assert {workload.operation for workload in targets} == {"gdpa", "window", "seed"}


def records_of(workload, contender, forward, backward):
    common = {"workload": workload.name, "contender": contender}
    return [common | {"pass": "forward"} | forward, common | {"pass": "backward"} | backward]


def test_rows_of_the_table(capsys):
    ceilings = Ceilings(flops_per_second=1.0, bytes_per_second=1e9)
    forward, backward = (cost(GDPA, direction).flops for direction in workloads.DIRECTIONS)
    records = [
        *records_of(GDPA, "kernels", {"seconds": 1.5 * forward}, {"seconds": 3.0 * backward}),
        *records_of(GDPA, "unfused", {"seconds": 6.0 * forward}, {"note": "failed: out of memory"}),
        *records_of(GDPA, "cudnn", *[{"note": "does not apply: GDPA has no softmax"}] * 2),
    ]
    rows = kernel_table.counted([GDPA], records, ceilings)
    assert [row["rooflines"] for row in rows] == pytest.approx([1.5, 3.0])
    assert [row["targets"][0]["met"] for row in rows] == [True, False]
    assert rows[0]["flops_per_second"] == pytest.approx(1 / 1.5)
    assert kernel_table.speedup(rows[0], "unfused") == pytest.approx(4.0)
    assert rows[1]["baselines"] == {
        "unfused": "failed: out of memory",
        "xla": "failed: no record",
        "cudnn": "does not apply: GDPA has no softmax",
        "torch": "failed: no record",
    }
    [missed] = kernel_table.missed_targets(rows)
    assert missed.endswith("backward <= 2.2 x roofline: 3.00")
    kernel_table.print_table(rows, "a GPU", ceilings)
    text = capsys.readouterr().out
    assert "not met" in text
    assert f"unfused failed: out of memory: {GDPA.name} backward" in text


def test_a_time_below_the_roofline_is_not_believed():
    ceilings = Ceilings(flops_per_second=1.0, bytes_per_second=1e9)
    seconds = 0.5 * cost(GDPA, "forward").flops
    records = records_of(GDPA, "kernels", {"seconds": seconds}, {"note": "failed"})
    assert [row["believable"] for row in kernel_table.counted([GDPA], records, ceilings)] == [
        False,
        True,
    ]


@pytest.fixture
def quick(monkeypatch):
    """Let nothing be timed; `tests/pallas_kernels/test_tune.py` has the timing's own tests."""
    ceilings = Ceilings(flops_per_second=1e12, bytes_per_second=1e12)
    monkeypatch.setattr(kernel_measurements, "measure_ceilings", lambda *_: ceilings)
    monkeypatch.setattr(kernel_measurements, "seconds_per_call", lambda *_: next(clock))
    clock = itertools.count(1.0)


def test_a_run_leaves_a_record_of_everything(tmp_path, quick):
    path = tmp_path / "records"
    kernel_measurements.run([DRY[0]], [DRY[1]], "xla", path, 120.0, True)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    found = {key: value for record in records for key, value in record.items()}
    assert max(found["errors"].values()) <= kernel_measurements.TOLERANCE
    rows = kernel_table.counted([DRY[0]], records, Ceilings(**found["ceilings"]))
    assert rows[0]["seconds"] > 0
    assert isinstance(rows[0]["baselines"]["unfused"], float)
    assert rows[0]["baselines"]["cudnn"] == "does not apply: GDPA has no softmax"


def test_a_wrong_kernel_ends_the_run(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(kernel_measurements, "_error", lambda got, want: float("nan"))
    path = tmp_path / "records"
    with pytest.raises(KernelError, match="out nan, d_query nan"):
        kernel_measurements.run([DRY[0]], [DRY[3]], "xla", path, 120.0, True)
    last = json.loads(path.read_text().splitlines()[-1])
    assert last["error"].startswith(DRY[3].name)


def test_what_the_budget_does_not_hold_is_listed(tmp_path, quick):
    path = tmp_path / "records"
    kernel_measurements.run([DRY[3]], [], "xla", path, 0.0, True)
    notes = [json.loads(line).get("note") for line in path.read_text().splitlines()[2:]]
    assert notes == ["skipped: time budget"] * 8


@pytest.mark.slow
def test_the_dry_run_writes_the_table(tmp_path):
    content, printed = dry_run("kernels", tmp_path)
    assert content["device"] == "cpu"
    assert len(content["rows"]) == 2 * len(DRY)
    assert all(row["seconds"] for row in content["rows"])
    assert DRY[0].name in printed
