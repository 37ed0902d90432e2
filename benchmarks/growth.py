"""How a training step's time grows with each size of a model, and the exponents of that growth.

    python -m benchmarks.growth [--only=events,rows] [--cores=1]

Around one size (`_BASE`), one number at a time takes several values; the step times of a sweep are
taken in turns, and a figure is the median of the rounds' processor time. The exponent is the slope
of log time over log size, between the two largest values and over the whole sweep. Random batches
at full history length; tables in float32. The JSON and the picture go to --out, beside the sweeps
that are there already; some ten minutes on two cores, and 10 GB for the sweep of rows.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
from absl import app, flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

from benchmarks.random_batches import random_batch  # noqa: E402
from benchmarks.report import RESULTS, environment, write_json  # noqa: E402
from benchmarks.step_times import Contestant, in_turns  # noqa: E402
from benchmarks.twin_sizes import Size, experiment, schema  # noqa: E402

_ONLY = flags.DEFINE_list("only", None, "Sweeps to take; by default all.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of which the median counts.")
_STEPS = flags.DEFINE_integer("steps", 2, "Steps of each contestant in a round.")
_CORES = flags.DEFINE_integer("cores", 0, "Pin the process to so many cores; 0: it is not pinned.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "growth.json"), "Where the JSON goes.")

_BASE = Size(
    batch=64, events=256, dim=64, layers=2, heads=4, summary=16, kv=64, seeds=32, tokens=16,
    window=32, experts=2, rows=10_000,
)  # fmt: skip
_DIM_OF_ROWS = 32  # so that six tables of 10^7 rows take 8 GB
SWEEPS: dict[str, tuple[int, ...]] = {
    "events": (64, 128, 256, 512, 1024, 2048, 4096),
    "batch": (16, 32, 64, 128, 256, 512),
    "layers": (1, 2, 4, 8),
    "experts": (1, 2, 4, 8),
    "streams": (1, 2, 4, 8),
    "rows": (10_000, 100_000, 1_000_000, 10_000_000),
}


def contestant(sweep: str, value: int) -> Contestant:
    """Return the model in training whose size of that name has that value."""
    changes = {"streams": {}, "rows": {"rows": value, "dim": _DIM_OF_ROWS}}
    size = dataclasses.replace(_BASE, **changes.get(sweep, {sweep: value}))
    config, described = experiment(size), schema(size)
    names = [f"view{i}" for i in range(value if sweep == "streams" else 1)]
    (stream,), (events,) = config.model.streams, described.streams
    streams = tuple(dataclasses.replace(stream, name=name) for name in names)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, streams=streams),
    )
    described = dataclasses.replace(
        described, streams=tuple(dataclasses.replace(events, name=name) for name in names)
    )
    return Contestant(config, described, [random_batch(config, described, size.batch)])


def exponents(values: tuple[int, ...], seconds: np.ndarray) -> dict[str, float]:
    """Return the slopes of log time over log size: of the whole sweep, and of its last two."""
    sizes, times = np.log(values), np.log(seconds)
    return {
        "exponent": float(np.polyfit(sizes, times, 1)[0]),
        "last_exponent": float((times[-1] - times[-2]) / (sizes[-1] - sizes[-2])),
    }


def draw(sweeps: dict[str, Any], path: pathlib.Path) -> None:
    """Draw time over size, each sweep relative to its first value."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for name, found in sweeps.items():
        values, times = np.asarray(found["values"]), np.asarray(found["processor_seconds"])
        label = f"{name} from {values[0]:,} (exponent {found['exponent']:.2f})"
        axes.loglog(values / values[0], times / times[0], marker="o", markersize=4, label=label)
    axes.set_xlabel("size, times its smallest")
    axes.set_ylabel("processor time of a step, times that of the smallest")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main(argv: list[str]) -> None:
    """Take the sweeps, print their table, write JSON and picture."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if unknown := set(_ONLY.value or ()) - set(SWEEPS):
        raise app.UsageError(f"--only: expected some of {', '.join(SWEEPS)}, got {sorted(unknown)}")
    if _CORES.value:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: _CORES.value])
    found: dict[str, Any] = {}
    for sweep in _ONLY.value or SWEEPS:
        values = SWEEPS[sweep]
        times = in_turns(
            [contestant(sweep, value) for value in values],
            rounds=_ROUNDS.value,
            steps=_STEPS.value,
        )
        clock, processor = np.median(times, axis=0).T
        found[sweep] = {
            "values": list(values),
            "seconds": clock.tolist(),
            "processor_seconds": processor.tolist(),
            **exponents(values, processor),
            "cores": _CORES.value or len(os.sched_getaffinity(0)),
            **environment(["jax", "jaxlib"]),
        }
        for value, seconds in zip(values, processor, strict=True):
            print(f"{sweep:>8} {value:>12,} {seconds:9.3f} s {seconds / processor[0]:9.2f}x")
        print(f"{sweep:>8} exponent {found[sweep]['exponent']:.2f}", flush=True)
    path = pathlib.Path(_OUT.value)
    if path.exists():
        found = {**json.loads(path.read_text())["sweeps"], **found}
    content = {
        "command": "python -m benchmarks.growth",
        "base": dataclasses.asdict(_BASE),
        "sweeps": found,
    }
    write_json(path, content)
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    app.run(main)
