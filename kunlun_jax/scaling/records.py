"""The records of finished runs: one file a study, `runs.jsonl` (`record_lines.py` says how).

A run that has a record is not run again, on this machine or another. A record says nothing about a
single user or example, so that those of data that may not be redistributed can be published.
"""

import json
import pathlib
from typing import Any

import numpy as np

from kunlun_jax.config import FREE_SETTINGS, ExperimentConfig, in_current_form, to_mapping
from kunlun_jax.files import discard_parts, first_difference, locked, publish
from kunlun_jax.metrics.comparison import METRICS, measure
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.scaling.record_lines import Record, decode, encode
from kunlun_jax.shapes import Float
from kunlun_jax.training.workdir import WorkdirError

RECORDS_FILE = "runs.jsonl"
NUM_RESAMPLES = 1000
# What may differ between two machines.
_LOCAL_SETTINGS = {("data", "directory"), ("data", "options", "path")}


def add_record(directory: pathlib.Path, record: Record) -> None:
    """Add a record to a study's file, all of it or, if the process ends meanwhile, nothing.

    Args:
        directory: Where the file is, or is to be; other processes may add to it at the same time.
        record: The record.

    Raises:
        WorkdirError: If the file is damaged, or has another record of the run.
        OSError: If it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / RECORDS_FILE
    with locked(directory):  # the folder itself: no lock's file is left in what is published
        discard_parts(path)
        before = path.read_bytes() if path.exists() else b""
        before += b"" if before.endswith(b"\n") or not before else b"\n"
        after = before + encode(path, before, record)
        decode(path, after)
        publish(path, after)


def read_records(directory: pathlib.Path) -> dict[str, Record]:
    """Return the records of a study by name of the run; none if there is no file.

    Args:
        directory: Where the file is.

    Raises:
        WorkdirError: If a line is damaged, or there are two different records of a run.
    """
    path = directory / RECORDS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WorkdirError(f"{path}: expected the records of runs: {error}") from error
    return decode(path, content)


def read_record(directory: pathlib.Path, name: str, config: ExperimentConfig) -> Record | None:
    """Return the record of a run; None if there is none.

    Args:
        directory: Where the study's file is.
        name: The run.
        config: Its configuration; see `require_same_config`.

    Raises:
        WorkdirError: If the file is damaged, or the record is of another configuration.
    """
    record = read_records(directory).get(name)
    if record is not None:
        require_same_config(directory, record, config)
    return record


def require_same_config(directory: pathlib.Path, record: Record, config: ExperimentConfig) -> None:
    """Check that a record is of a configuration.

    Settings that either side does not know are not compared: one that came later does not make
    earlier runs void.

    Args:
        directory: Where the study's file is, for the message.
        record: The record.
        config: The configuration.

    Raises:
        WorkdirError: If it is of another one.
    """
    known = in_current_form(record.content["config"])
    wanted = json.loads(json.dumps(to_mapping(config)))
    difference = first_difference(_shared(known, wanted), _shared(wanted, known))
    if difference:
        where, expected, got = difference
        raise WorkdirError(
            f"{directory / RECORDS_FILE}: {record.content['name']}: is of a run with "
            f"config.{where} = {expected!r}, got {got!r}; remove its line to run this one"
        )


def _shared(values: Any, other: Any, where: tuple[str, ...] = ()) -> Any:
    """Return the settings that another mapping has, too, and that change a run's numbers."""
    if not (isinstance(values, dict) and isinstance(other, dict)):
        return values
    return {
        key: _shared(value, other[key], (*where, key))
        for key, value in values.items()
        if key in other and (*where, key) not in FREE_SETTINGS | _LOCAL_SETTINGS
    }


def resample(
    scores: Scores,
    label_rates: list[float],
    *,
    task_weights: tuple[float, ...] | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Float[np.ndarray, "draws"]]:
    """Return NE and AUC of the test split and of resamples of its users, the mean over tasks.

    Args:
        scores: Predictions of the split.
        label_rates: Weighted mean label of the training split, one a task.
        task_weights: Of the tasks, in the mean over them; None: all the same.
        num_resamples: Resamples.

    Raises:
        ComparisonError: If a prediction is NaN or infinite, or all labels of a task are the same.
    """
    bootstrap = UserBootstrap(scores.user_ids, num_resamples=num_resamples)
    measured = [
        measure(scores, bootstrap, label_rate=rate, task=task)
        for task, rate in enumerate(label_rates)
    ]
    return {
        metric: np.average(
            [np.append(getattr(task, metric), task.resampled[metric]) for task in measured],
            axis=0,
            weights=task_weights,
        ).astype(np.float32)
        for metric in METRICS
    }
