"""A plan as text."""

import math

from kunlun_jax.config import ExperimentConfig
from kunlun_jax.plan.compilation import Compilation
from kunlun_jax.plan.costs import Cost
from kunlun_jax.plan.machines import Machine
from kunlun_jax.plan.prediction import Prediction
from kunlun_jax.training.summary import format_table


def report(prediction: Prediction, config: ExperimentConfig, machine: Machine) -> str:
    """Return a plan as tables.

    Args:
        prediction: The plan.
        config: The experiment.
        machine: The machine.
    """
    return "\n\n".join(
        (
            _header(prediction, config, machine),
            _modules(prediction),
            _tables(prediction),
            _memory(prediction),
            _exchanges(prediction),
            _time(prediction, config, machine),
        )
    )


def verdict(prediction: Prediction, machine: Machine) -> tuple[bool, str]:
    """Return whether a step fits, and the line that says so.

    Args:
        prediction: The plan.
        machine: The machine.
    """
    need, have = prediction.peak_bytes, machine.usable_bytes
    numbers = (
        f"{_gb(need)} GB a device, of {_gb(have)} GB ({machine.device.memory_fraction:.0%} of "
        f"{_gb(machine.device.memory_bytes)} GB)"
    )
    if need <= have:
        return True, f"fits {machine.name}: {numbers}"
    return (
        False,
        f"too little memory on {machine.name}: expected at most what is there, got {numbers}",
    )


def comparison(prediction: Prediction, compiled: Compilation) -> str:
    """Return XLA's numbers beside the predicted ones.

    Args:
        prediction: The plan.
        compiled: What the compiler said.
    """
    pairs = (
        ("state and batch", prediction.argument_bytes, compiled.argument_bytes),
        ("temporary", prediction.temporary_bytes, compiled.temporary_bytes),
        ("peak", prediction.peak_bytes, compiled.peak_bytes),
    )
    memory = [
        (name, _gb(ours), _gb(xla), f"{ours / xla - 1:+.1%}" if xla else "")
        for name, ours, xla in pairs
    ]
    predicted: dict[str, int] = {}
    for name, exchange in prediction.exchanges.items():
        kind = name.split(" over ")[0]
        predicted[kind] = predicted.get(kind, 0) + exchange.bytes
    kinds = sorted(predicted.keys() | compiled.collectives.keys())
    sent = [
        (
            kind,
            _gb(predicted.get(kind, 0)),
            _gb(compiled.collectives.get(kind, {}).get("bytes", 0)),
            compiled.collectives.get(kind, {}).get("count", 0),
        )
        for kind in kinds
    ]
    kernels = ", ".join(f"{count} {name}" for name, count in compiled.kernels.items()) or "none"
    return "\n\n".join(
        (
            f"compiled in {compiled.seconds:.0f} s; attention kernels: {kernels}",
            format_table(("GB a device", "predicted", "XLA", "difference"), memory),
            format_table(("GB a device", "predicted", "XLA", "number"), sent),
        )
    )


def _header(prediction: Prediction, config: ExperimentConfig, machine: Machine) -> str:
    mesh = " x ".join(f"{axis} {size}" for axis, size in prediction.mesh.items())
    sources = "\n".join(f"  {source}" for source in machine.device.sources)
    return (
        f"{config.model.name} on {machine.name}: mesh {mesh}; {config.data.batch_size} examples a "
        f"step; attention kernels: {prediction.kernels}\n{sources}"
    )


def _modules(prediction: Prediction) -> str:
    costs, flops = prediction.costs, prediction.flops_per_example
    names = [*flops, *(name for name in prediction.parameters if name not in flops)]
    names += [name for name in costs if name not in names]
    rows = []
    for name in names:
        cost = costs.get(name, Cost())
        rows.append((name, *_row(prediction.parameters.get(name, 0), flops.get(name, 0), cost)))
    total = Cost(*(sum(values) for values in zip(*map(_values, costs.values()), strict=True)))
    rows.append(("all", *_row(sum(prediction.parameters.values()), sum(flops.values()), total)))
    header = ("module", "parameters", "forward MFLOP/example", "step GFLOP", "step MB",
              "compute us", "memory us", "least us")  # fmt: skip
    return "a step on one device, forward and backward\n" + format_table(header, rows)


def _values(cost: Cost) -> tuple[float, ...]:
    return cost.flops, cost.bytes, cost.compute_seconds, cost.memory_seconds, cost.seconds


def _row(parameters: int, flops: int, cost: Cost) -> tuple[str, ...]:
    times = (cost.compute_seconds, cost.memory_seconds, cost.seconds)
    return (
        f"{parameters:,}",
        f"{flops / 1e6:,.1f}",
        f"{cost.flops / 1e9:,.1f}",
        f"{cost.bytes / 1e6:,.1f}",
        *(f"{seconds * 1e6:,.0f}" for seconds in times),
    )


def _tables(prediction: Prediction) -> str:
    rows = [
        (name, f"{table.rows:,}", str(table.width), _gb(table.bytes))
        for name, table in prediction.tables.items()
    ]
    tables = prediction.tables.values()
    rows.append(("all", f"{sum(t.rows for t in tables):,}", "", _gb(sum(t.bytes for t in tables))))
    return format_table(("table", "rows", "width", "GB, all devices"), rows)


def _memory(prediction: Prediction) -> str:
    rows = [(name, _gb(size)) for name, size in prediction.state_bytes.items()]
    rows.append(("state and batch", _gb(prediction.argument_bytes)))
    rows += [(f"  {name}", _gb(size)) for name, size in prediction.alive_bytes.items()]
    rows.append(("temporary, at the peak", _gb(prediction.temporary_bytes)))
    rows.append(("peak", _gb(prediction.peak_bytes)))
    return format_table(("memory", "GB a device"), rows)


def _exchanges(prediction: Prediction) -> str:
    if not prediction.exchanges:
        return "nothing is exchanged: one device, or nothing split"
    rows = [
        (name, exchange.count, _gb(exchange.bytes), f"{exchange.seconds * 1e6:,.0f}")
        for name, exchange in prediction.exchanges.items()
    ]
    return format_table(("collectives", "number", "GB a device", "least us"), rows)


def _time(prediction: Prediction, config: ExperimentConfig, machine: Machine) -> str:
    costs, sent = prediction.costs.values(), prediction.exchanges.values()
    terms = {
        "compute": sum(cost.compute_seconds for cost in costs),
        "memory": sum(cost.memory_seconds for cost in costs),
        "compute or memory, launch by launch": sum(cost.seconds for cost in costs),
        "collectives": sum(exchange.seconds for exchange in sent),
        "a step, at the least": prediction.seconds,
    }
    rate = config.data.batch_size / prediction.seconds if prediction.seconds else math.nan
    table = format_table(("term", "ms"), [(k, f"{v * 1e3:,.2f}") for k, v in terms.items()])
    peak = machine.device.flops[config.model.dtype] * machine.num_devices
    return (
        f"{table}\n\nat most {rate:,.0f} examples/s, {prediction.mfu:.1%} MFU of "
        f"{peak / 1e15:,.4g} PFLOP/s in {config.model.dtype}"
    )


def _gb(size: int | float) -> str:
    return f"{size / 1e9:,.3f}"
