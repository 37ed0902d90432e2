"""How much slower or faster does Kunlun train without one of its parts?

    python -m benchmarks.ablation_speeds

Takes training steps of Kunlun and of each ablation of configs/scaling/complete_journey.py in turns
within one process, and prints the ratio of their speeds: the median of the rounds, and the range of
their middle half. By processor time, which other work on the machine disturbs less than the clock;
the JSON, which `python -m benchmarks.results_page` reads, has both. Takes some 20 processor
minutes, most of them to compile fifteen models.
"""

import pathlib
from typing import Any

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

from absl import app, flags  # noqa: E402

from benchmarks.report import RESULTS, environment, write_json  # noqa: E402
from benchmarks.step_times import Contestant, gains, in_turns, train_batches  # noqa: E402
from configs.scaling import complete_journey  # noqa: E402
from kunlun_jax.scaling.study import PlannedRun, StudyConfig, planned_runs, study_config  # noqa: E402
from kunlun_jax.training.run import open_dataset  # noqa: E402

_NUM_BATCHES = 8
_ROUNDS = flags.DEFINE_integer("rounds", 12, "Rounds of which the median is printed.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of each in a round.")
_OUT = flags.DEFINE_string("out", str(RESULTS / "ablation_speeds.json"), "Where the JSON goes.")


def largest_runs(study: StudyConfig) -> dict[str, PlannedRun]:
    """Return the first seed's run of every family, at its largest, and of every ablation."""
    return {run.group: run for run in reversed(planned_runs(study)) if run.size == -1}


def main(argv: list[str]) -> None:
    """Measure every pair, print the table, write the JSON."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
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
