"""The table of `benchmarks/kernels.py`: times beside what they are measured by."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.kernel_measurements import describe
from benchmarks.roofline import Ceilings
from benchmarks.workloads import DIRECTIONS, Workload, cost

BASELINES = ("unfused", "xla", "cudnn", "torch")
# Operation and direction -> most times the roofline time.
MOST_ROOFLINES = {
    ("gdpa", "forward"): 1.6,
    ("gdpa", "backward"): 2.2,
    ("window", "forward"): 2.2,
    ("window", "backward"): 2.2,
    ("seed", "forward"): 1.8,
    ("seed", "backward"): 1.8,
}
# Operation -> baseline -> least times as fast.
LEAST_SPEEDUPS = {"window": {"unfused": 8.0, "xla": 3.0}}


def counted(
    workloads: Iterable[Workload], records: Sequence[dict[str, Any]], ceilings: Ceilings
) -> list[dict[str, Any]]:
    """Return a row for each workload and direction, all in SI units.

    A baseline without a time stands as its reason. `targets` says of each goal what was found and
    whether it was met; None where a time is missing.
    """
    results = {(r["workload"], r["contender"], r["pass"]): r for r in records if "contender" in r}
    return [
        _row(workload, direction, results, ceilings)
        for workload in workloads
        for direction in DIRECTIONS
    ]


def _row(
    workload: Workload, direction: str, results: dict[tuple, dict[str, Any]], ceilings: Ceilings
) -> dict[str, Any]:
    times = {
        name: _seconds(results, workload.name, name, direction) for name in ("kernels", *BASELINES)
    }
    least, own = cost(workload, direction), times.pop("kernels")
    seconds = own if isinstance(own, float) else None
    row: dict[str, Any] = {
        "workload": workload.name,
        "direction": direction,
        "seconds": seconds,
        "note": None if seconds else own,
        "flops": least.flops,
        "minimal_bytes": least.bytes,
        "roofline_seconds": ceilings.seconds(least),
        "bound": ceilings.bound(least),
        "baselines": times,
        "believable": seconds is None or seconds > 0.9 * ceilings.seconds(least),
    }
    if seconds:
        row["flops_per_second"] = least.flops / seconds
        row["bytes_per_second"] = least.bytes / seconds
        row["rooflines"] = seconds / row["roofline_seconds"]
    if workload.is_target:
        row["targets"] = _targets(workload.operation, direction, row)
    return row


def _seconds(
    results: dict[tuple, dict[str, Any]], workload: str, contender: str, direction: str
) -> float | str:
    """Return the time of a direction, or why there is none."""
    result = results.get((workload, contender, direction), {"note": "failed: no record"})
    return result.get("seconds", result.get("note"))


def _targets(operation: str, direction: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    most = MOST_ROOFLINES[operation, direction]
    found = row.get("rooflines")
    met = None if found is None else found <= most
    targets = [{"goal": f"<= {most} x roofline", "found": found, "met": met}]
    for name, least in LEAST_SPEEDUPS.get(operation, {}).items():
        found = speedup(row, name)
        met = None if found is None else found >= least
        targets.append({"goal": f">= {least} x as fast as {name}", "found": found, "met": met})
    return targets


def speedup(row: dict[str, Any], baseline: str) -> float | None:
    """Return the time of a baseline over that of the kernels; None where either is missing."""
    seconds = row["baselines"][baseline]
    if row["seconds"] is None or not isinstance(seconds, float):
        return None
    return seconds / row["seconds"]


def missed_targets(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the goals that were not met, in words; those without a time count as not met."""
    return [
        f"{row['workload']} {row['direction']} {target['goal']}: {_number(target['found'], '.2f')}"
        for row in rows
        for target in row.get("targets", ())
        if not target["met"]
    ]


def _number(x: float | None, spec: str) -> str:
    return "-" if x is None else format(x, spec)


def print_table(rows: Sequence[dict[str, Any]], device: str, ceilings: Ceilings) -> None:
    """Print a line for each row, and after it why times are missing."""
    print(f"\n{device}; {describe(ceilings)}")
    head = f"{'workload':34s} {'':8s} {'us':>8s} {'TFLOP/s':>8s} {'GB/s':>6s} {'% roof':>6s} "
    head += f"{'x roof':>6s} {'bound':10s} "
    print(head + " ".join(f"{'/ ' + name:>9s}" for name in BASELINES) + "  goals")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        print(_line(row, reasons))
    for reason, cases in reasons.items():
        more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
        print(f"  {reason} {', '.join(cases[:3])}{more}")


def _line(row: dict[str, Any], reasons: dict[str, list[str]]) -> str:
    seconds = row["seconds"]
    case = f"{row['workload']} {row['direction']}"
    if seconds is None:
        reasons.setdefault(f"kernels {row['note']}:", []).append(case)
    cells = []
    for name in BASELINES:
        ratio = speedup(row, name)
        cells.append(f"{_number(ratio, '.2f'):>9s}")
        if isinstance(row["baselines"][name], str):
            reasons.setdefault(f"{name} {row['baselines'][name]}:", []).append(case)
    if not row["believable"]:
        reasons.setdefault("faster than its roofline, not to be believed:", []).append(case)
    numbers = [
        (seconds and 1e6 * seconds, "8.1f"),
        (seconds and row["flops_per_second"] / 1e12, "8.1f"),
        (seconds and row["bytes_per_second"] / 1e9, "6.0f"),
        (seconds and 100 / row["rooflines"], "6.1f"),
        (seconds and row["rooflines"], "6.2f"),
    ]
    goals = [
        {True: "met", False: "not met", None: "unknown"}[t["met"]] for t in row.get("targets", ())
    ]
    return (
        f"{row['workload']:34s} {row['direction']:8s} "
        + " ".join(f"{_number(x, spec):>{spec.split('.')[0]}s}" for x, spec in numbers)
        + f" {row['bound']:10s} "
        + " ".join(cells)
        + f"  {', '.join(goals)}"
    ).rstrip()
