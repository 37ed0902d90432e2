"""How much slower or faster does Kunlun train without one of its parts?

    python -m benchmarks.ablation_speeds

Takes training steps of Kunlun and of each ablation of configs/scaling/complete_journey.py in turns
within one process, and prints the ratio of their speeds: the median of the rounds, and the range of
their middle half. By processor time, which other work on the machine disturbs less than the clock;
the JSON, which `python -m benchmarks.results_page` reads, has both. Takes some 20 processor
minutes, most of them to compile fifteen models.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.report import RESULTS, environment, write_json
from benchmarks.step_times import Contestant, in_turns, train_batches
from configs.scaling import complete_journey
from kunlun_jax.scaling.study import PlannedRun, StudyConfig, plan, study_config
from kunlun_jax.shapes import Float
from kunlun_jax.training.allocator import keep_freed_memory
from kunlun_jax.training.run import open_dataset

FILE = RESULTS / "ablation_speeds.json"
CLOCKS = ("wall", "processor")  # the last axis of `in_turns`
_NUM_BATCHES = 8
_ROUNDS = flags.DEFINE_integer("rounds", 12, "Rounds of which the median is printed.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of each in a round.")
_OUT = flags.DEFINE_string("out", str(FILE), "Where the JSON goes.")


def largest_runs(study: StudyConfig) -> dict[str, PlannedRun]:
    """Return the first seed's run of every family, at its largest, and of every ablation."""
    return {run.group: run for run in reversed(plan(study)) if run.size == -1}


def gains(times: Float[np.ndarray, "rounds 2 2"]) -> dict[str, list[float]]:
    """Return how much faster the second contestant is than the first, as a share of the first.

    Args:
        times: Of `in_turns`.

    Returns:
        By clock: the lower quartile of the rounds, the median, the upper quartile.
    """
    faster = times[:, 0] / times[:, 1] - 1.0
    quartiles = np.quantile(faster, (0.25, 0.5, 0.75), axis=0)
    return dict(zip(CLOCKS, quartiles.T.tolist(), strict=True))


def speeds(content: Mapping[str, Any]) -> dict[str, str]:
    """Return, by ablation, the gain in processor time as a cell of a table."""
    cells = {}
    for name, result in content["ablations"].items():
        low, median, high = result["gain"]["processor"]
        cells[name] = f"{median:+.1%} [{low:+.1%}, {high:+.1%}]"
    return cells


def main(argv: list[str]) -> None:
    """Measure every pair, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    keep_freed_memory()
    study = study_config(complete_journey.get_config().to_dict())
    runs = largest_runs(study)
    config = runs[study.subject].config
    dataset = open_dataset(config.data)
    batches = train_batches(config, dataset, _NUM_BATCHES)
    subject = Contestant(config, dataset.schema, batches)
    results: dict[str, Any] = {}
    print(f"{f'examples/s, against {study.subject}':34}{'wall':>8}{'processor':>11} [quartiles]")
    for ablation in study.ablations:
        contestant = Contestant(runs[ablation.name].config, dataset.schema, batches)
        times = in_turns([subject, contestant], rounds=_ROUNDS.value, steps=_STEPS.value)
        gain = gains(times)
        results[ablation.name] = {"gain": gain, "rounds": times.tolist()}
        low, median, high = gain["processor"]
        print(
            f"{ablation.name:34}{gain['wall'][1]:>+8.1%}{median:>+11.1%} [{low:+.1%}, {high:+.1%}]",
            flush=True,
        )
    content = {
        "benchmark": "ablation_speeds",
        "batch_size": config.data.batch_size,
        "steps": _STEPS.value,
        "ablations": results,
        "environment": environment(("jax", "jaxlib", "numpy")),
    }
    write_json(pathlib.Path(_OUT.value), content)


if __name__ == "__main__":
    app.run(main)
