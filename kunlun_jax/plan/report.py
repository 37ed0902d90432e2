"""What a step needs, as text."""

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.plan.compilation import Compilation
from kunlun_jax.plan.machines import Machine
from kunlun_jax.plan.requirements import Requirements
from kunlun_jax.training.summary import format_table


def report(needs: Requirements, config: ExperimentConfig, machine: Machine) -> str:
    """Return what a step needs as tables.

    Args:
        needs: What it needs.
        config: The experiment.
        machine: The machine.
    """
    mesh = " x ".join(f"{axis} {size}" for axis, size in needs.mesh.items())
    header = (
        f"{config.model.name} on {machine.name}: mesh {mesh}; {config.data.batch_size} examples a "
        f"step; attention kernels: {needs.kernels}\n  {machine.device.source}"
    )
    parts = (_modules(needs), _tables(needs), _memory(needs), _time(needs, config, machine))
    return "\n\n".join((header, *parts))


def verdict(
    needs: Requirements, machine: Machine, compiled: Compilation | None = None
) -> tuple[bool, str]:
    """Return whether a step fits, and the line that says so.

    Args:
        needs: What it needs.
        machine: The machine.
        compiled: What the compiler said; without it only state and batch are known.
    """
    need, have = compiled.peak_bytes if compiled else needs.argument_bytes, machine.usable_bytes
    sizes = (
        f"{_gb(need)} GB a device, of {_gb(have)} GB ({machine.device.memory_fraction:.0%} of "
        f"{_gb(machine.device.memory_bytes)} GB)"
    )
    what = "the step" if compiled else "state and batch"
    if need > have:
        return False, f"too little memory on {machine.name}: expected room for {what}, got {sizes}"
    rest = "" if compiled else "; --compile says what the step needs beside them"
    return True, f"{what} on {machine.name}: fits, {sizes}{rest}"


def compiler_says(compiled: Compilation) -> str:
    """Return what XLA makes of a step, as tables.

    Args:
        compiled: What the compiler said.
    """
    kernels = ", ".join(f"{count} {name}" for name, count in compiled.kernels.items()) or "none"
    memory = [
        ("state and batch", _gb(compiled.argument_bytes)),
        ("temporary", _gb(compiled.temporary_bytes)),
        ("peak", _gb(compiled.peak_bytes)),
    ]
    sent, moved = (
        [(kind, _gb(entry["bytes"]), entry["count"]) for kind, entry in kinds.items()]
        for kinds in (compiled.collectives, compiled.traffic)
    )
    return "\n\n".join(
        (
            f"compiled in {compiled.seconds:.0f} s; attention kernels: {kernels}",
            format_table(("XLA", "GB a device"), memory),
            format_table(("read and written", "GB a device", "count"), moved),
            format_table(("collectives", "GB a device", "count"), sent)
            if sent
            else "nothing is exchanged: one device, or nothing split",
        )
    )


def _modules(needs: Requirements) -> str:
    flops, seconds = needs.flops_per_example, needs.least_seconds
    rows = [
        (
            name,
            f"{needs.parameters.get(name, 0):,}",
            f"{flops.get(name, 0) / 1e6:,.1f}",
            f"{seconds.get(name, 0) * 1e6:,.0f}",
        )
        for name in {**flops, **needs.parameters}
    ]
    totals = (sum(each.values()) for each in (needs.parameters, flops, seconds))
    parameters, operations, least = totals
    rows.append(("all", f"{parameters:,}", f"{operations / 1e6:,.1f}", f"{least * 1e6:,.0f}"))
    header = ("module", "parameters", "forward MFLOP/example", "step us, at least")
    return format_table(header, rows)


def _tables(needs: Requirements) -> str:
    rows = [
        (name, f"{table.rows:,}", str(table.width), _gb(table.bytes))
        for name, table in needs.tables.items()
    ]
    tables = needs.tables.values()
    rows.append(("all", f"{sum(t.rows for t in tables):,}", "", _gb(sum(t.bytes for t in tables))))
    return format_table(("table", "rows", "width", "GB, all devices"), rows)


def _memory(needs: Requirements) -> str:
    rows = [(name, _gb(size)) for name, size in needs.state_bytes.items()]
    rows.append(("state and batch", _gb(needs.argument_bytes)))
    return format_table(("memory", "GB a device"), rows)


def _time(needs: Requirements, config: ExperimentConfig, machine: Machine) -> str:
    seconds = sum(needs.least_seconds.values())
    peak = machine.device.flops[config.model.dtype] * machine.num_devices
    return (
        f"at least {seconds * 1e3:,.2f} ms a step, at most {config.data.batch_size / seconds:,.0f} "
        f"examples/s: matrix products at {peak / 1e15:,.4g} PFLOP/s in {config.model.dtype}"
    )


def _gb(size: int | float) -> str:
    return f"{size / 1e9:,.3f}"
