"""What a search has found: a table for people, and `tune.json`."""

import collections
import pathlib
from collections.abc import Sequence

from kunlun_jax.files import json_lines, publish
from kunlun_jax.training.summary import format_table
from kunlun_jax.tune.metric import Metric
from kunlun_jax.tune.space import overrides
from kunlun_jax.tune.study import Trial

RESULTS_FILE = "tune.json"
_SHOWN = 10


def ranking(metric: Metric, trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials, the best one first; of equal ones the earlier.

    Args:
        metric: What the search is for.
        trials: Its trials.
    """
    complete = [t for t in trials if t.ending == "complete" and t.value is not None]
    sign = 1 if metric.minimize else -1
    return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def keep_results(workdir: pathlib.Path, metric: Metric, trials: Sequence[Trial]) -> None:
    """Write `tune.json`: every trial, the best one, and the flags that give its settings.

    Args:
        workdir: The directory of the search.
        metric: What it is for.
        trials: Its trials that have ended.

    Raises:
        OSError: If it cannot be written.
    """
    best = ranking(metric, trials)[:1]
    content = {
        "metric": f"val/{metric.name}",
        "direction": "minimize" if metric.minimize else "maximize",
        "best": [
            {"number": t.number, "value": t.value, "flags": overrides(t.values)} for t in best
        ],
        "trials": [
            {
                "number": trial.number,
                "ending": trial.ending,
                "value": trial.value,
                "settings": dict(trial.values),
                **({"message": trial.message} if trial.message else {}),
            }
            for trial in trials
        ],
    }
    publish(workdir / RESULTS_FILE, json_lines(content))


def summary(metric: Metric, trials: Sequence[Trial]) -> str:
    """Return a table of the best trials, how all ended, and the flags of the best one.

    Args:
        metric: What the search is for.
        trials: Its trials that have ended.
    """
    counts = collections.Counter(trial.ending for trial in trials)
    counted = ", ".join(f"{counts[ending]} {ending}" for ending in ("complete", "pruned", "failed"))
    lines = [f"{len(trials)} trials: {counted}"]
    best = ranking(metric, trials)
    if best:
        names = list(best[0].values)
        rows = [
            (f"{t.number:03d}", f"{t.value:.5f}", *(str(t.values[name]) for name in names))
            for t in best[:_SHOWN]
        ]
        lines.append(format_table(("trial", f"val/{metric.name}", *names), rows))
        lines.append(f"the best one's settings, for kunlun-jax train:\n{overrides(best[0].values)}")
    return "\n\n".join(lines)


def settings_line(trial: Trial) -> str:
    """Return a trial's settings in one line."""
    return ", ".join(f"{name}={value}" for name, value in trial.values.items())


def outcome_line(metric: Metric, ending: str, value: float | None, message: str) -> str:
    """Return in one line what came of a trial."""
    found = "" if value is None else f": best val/{metric.name} {value:.5f}"
    return f"{ending}{found}{message and f': {message}'}"
