"""Carries out a study run by run, each of which leaves a record; what has one is not run again."""

import json
import math
import pathlib
import re
import time
from typing import Any

import jax
import numpy as np

from kunlun_jax.environment import environment
from kunlun_jax.flops import flops_by_module
from kunlun_jax.scaling.learning_curves import learning_curve
from kunlun_jax.scaling.records import (
    Record,
    add_record,
    read_record,
    read_records,
    require_same_config,
    resample,
)
from kunlun_jax.scaling.study import PlannedRun, StudyConfig, planned_runs
from kunlun_jax.training.results import evaluate, restore_best
from kunlun_jax.training.run import Run, open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.step import TrainState
from kunlun_jax.training.workdir import METRICS_FILE, open_workdir

RUNS, RECORDS = "runs", "records"
_PIECES_FILE = "pieces.jsonl"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy")


def carry_out(
    study: StudyConfig,
    workdir: pathlib.Path,
    records: pathlib.Path,
    *,
    command: str,
    deadline: float = math.inf,
    only: str = "",
) -> bool:
    """Go on with the study; returns whether every run has a record.

    Args:
        study: The study.
        workdir: Where runs train, each below `runs`; of use only until the study is complete.
        records: Where the file of their records is, on this machine or another.
        command: The command, for the records.
        deadline: Reading of `time.monotonic` from which on a run saves and the study stops.
        only: Regular expression; runs whose name has no match are left for another time.

    Raises:
        WorkdirError: If a record, or the directory of a run, is of another configuration.
    """
    runs = planned_runs(study)
    found = read_records(records)
    for run in runs:
        if run.name in found:
            require_same_config(records, found[run.name], run.config)
    missing = [run for run in runs if run.name not in found]
    for planned in [run for run in missing if re.search(only, run.name)]:
        # Another process may have made it meanwhile.
        if read_record(records, planned.name, planned.config) is None:
            if time.monotonic() >= deadline:
                return False
            print(f"run {runs.index(planned) + 1} of {len(runs)}: {planned.name}", flush=True)
            record = _run(planned, workdir / RUNS / planned.name, deadline, command)
            if record is None:
                return False
            add_record(records, record)
            print(f"test NE {record.value('normalized_entropy'):.4f}", flush=True)
            jax.clear_caches()  # the next run is another model
        missing.remove(planned)
    return not missing


def _run(
    planned: PlannedRun, directory: pathlib.Path, deadline: float, command: str
) -> Record | None:
    """Train one run, or resume it, as train.py does; returns its record once it is complete."""
    start = time.monotonic(), time.process_time()
    with open_workdir(directory, planned.config), open_run(planned.config, directory) as run:
        state = run.resume_or_initialize()
        trained_before = int(state.step) == run.num_steps or run.checkpoints.has_ended(
            run.config.training
        )
        state, complete = run_loop(run, state, run.train_step(), deadline=deadline)
        # If only the evaluation is left, do it even past the deadline: otherwise a limit too short
        # for training and evaluation together would never get past it.
        if not complete or (time.monotonic() >= deadline and not trained_before):
            _add_piece(directory, start)
            print(f"stopped and saved at step {int(state.step)} of {run.num_steps}", flush=True)
            return None
        state = restore_best(run, state)
        metrics, scores = evaluate(run, state, "test")
        resampled = resample(scores, run.data.label_rates, task_weights=run.data.task_weights)
        wall, processor = _add_piece(directory, start)
        measured = _measured(run, state, directory)
    content = {
        "name": planned.name,
        **measured,
        "minutes": wall / 60,
        "cpu_minutes": processor / 60,
        "command": command,
        "environment": {**environment(_LIBRARIES), "device": jax.devices()[0].device_kind},
        "num_resamples": len(resampled["auc_roc"]) - 1,
        "num_users": len(np.unique(scores.user_ids)),
        "test": metrics,
        "config": json.loads((directory / "config.json").read_text()),
    }
    return Record(content, resampled)


def _measured(run: Run, state: TrainState, directory: pathlib.Path) -> dict[str, Any]:
    """Return sizes, speed and learning curve of a finished run."""
    lines = [json.loads(line) for line in (directory / METRICS_FILE).read_text().splitlines()]
    validation = [line for line in lines if "val/normalized_entropy" in line][-1]
    flops = flops_by_module(run.config.model, run.data.schema)

    def speed(key: str) -> float | None:
        rates = [line[key] for line in lines if key in line]
        return float(np.median(rates)) if rates else None

    return {
        "dataset": {
            "name": run.data.schema.name,
            "counts": run.data.dataset.manifest["counts"],
            "label_rates": run.data.dataset.label_rates,
        },
        "step": int(state.step),
        "examples": validation["step"] * run.config.data.batch_size,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "table_parameters": sum(x.size for x in jax.tree.leaves(state.tables)),
        "flops": sum(flops.values()),
        "learning_curve": learning_curve(lines, run.config.data.batch_size),
        "examples_per_second": speed("train/examples_per_second"),
        "examples_per_cpu_second": speed("train/examples_per_cpu_second"),
        "validation": {
            key.removeprefix("val/"): value
            for key, value in validation.items()
            if key.startswith("val/")
        },
    }


def _add_piece(directory: pathlib.Path, start: tuple[float, float]) -> tuple[float, float]:
    """Note how long a start took; returns wall and processor seconds of all starts of the run."""
    path = directory / _PIECES_FILE
    seconds = [time.monotonic() - start[0], time.process_time() - start[1]]
    with path.open("a") as file:
        file.write(json.dumps(seconds) + "\n")
    pieces = [json.loads(line) for line in path.read_text().splitlines()]
    wall, processor = np.sum(pieces, axis=0).tolist()
    return wall, processor
