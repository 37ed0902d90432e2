"""Progressive validation: every period is evaluated before the first step that trains on it.

`config.data.period_hours` has training go through time. A batch may hold the end of one period and
the beginning of the next; then the next is evaluated before that batch. What is found stands in
`metrics.jsonl` at the step that follows, so that a run which is resumed there finds it anew.
"""

import datetime
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from kunlun_jax.training.run import Run
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.summary import format_table
from kunlun_jax.training.workdir import METRICS_FILE, MetricWriter, NoWriter

PREFIX = "progressive/"
_SHOWN = ("normalized_entropy", "auc_roc", "log_loss", "calibration")


class Progressive:
    """Evaluates the periods of a run as training reaches them."""

    def __init__(self, run: Run, writer: MetricWriter | NoWriter) -> None:
        """Find out which periods begin with which step.

        Args:
            run: The run.
            writer: Records metrics.
        """
        self._run, self._writer = run, writer
        hours = run.config.data.period_hours
        self._seconds = max(1, round(3600 * hours))
        self._periods = run.train_batches.periods() if hours else []

    def before(self, step: int, state: TrainState) -> bool:
        """Evaluate the periods that a step is the first to train on; returns if there are any.

        Args:
            step: The step, from 1.
            state: That of before it.

        Raises:
            DatasetError: If the data turn out to be damaged.
        """
        reached = [(n, within) for n, batch, within in self._periods if batch == step - 1]
        for number, within in reached:
            source = self._run.data.period_batches(within, self._run.mesh)
            values = {"period": float(number * self._seconds), "examples": float(len(within))}
            if source.weight:  # without any, no metric is defined
                metrics = self._run.evaluator.evaluate(state.params, state.tables, source)
                values |= {"weight": source.weight, **metrics}
            self._writer.write(step, {f"{PREFIX}{key}": value for key, value in values.items()})
        return bool(reached)


def progressive_summary(workdir: pathlib.Path) -> str:
    """Return a table of the periods that a run has evaluated, and their mean; "" without any.

    The mean is weighted by the weights of the examples that were evaluated.

    Args:
        workdir: The working directory.
    """
    lines = map(json.loads, (workdir / METRICS_FILE).read_text().splitlines())
    found = [line for line in lines if f"{PREFIX}period" in line]
    if not found:
        return ""
    rows = [
        (_day(line[f"{PREFIX}period"]), line["step"], f"{line[f'{PREFIX}examples']:,.0f}",
         *(_cell(line.get(f"{PREFIX}{key}")) for key in _SHOWN))
        for line in found
    ]  # fmt: skip
    total = sum(line[f"{PREFIX}examples"] for line in found)
    means = [_cell(_mean(found, key)) for key in _SHOWN]
    rows.append(("all", "", f"{total:,.0f}", *means))
    return format_table(("period from (UTC)", "before step", "examples", *_SHOWN), rows)


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float | None:
    pairs = [(line.get(f"{PREFIX}weight"), line.get(f"{PREFIX}{key}")) for line in lines]
    known = [(weight, value) for weight, value in pairs if weight and value is not None]
    if not known:
        return None
    return math.fsum(w * x for w, x in known) / math.fsum(w for w, _ in known)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _day(seconds: float) -> str:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%d %H:%M}"
