"""What stays of a finished run: two small files, from which every table and plot is made.

`<run>.json` says what was run, where, and what came out; `<run>.npz` holds NE and AUC of bootstrap
resamples of the test users, the same resamples for all runs of one data set, so that any two runs
can be compared pairwise. Neither file says anything about a single user or example, so that records
of data that may not be redistributed can be kept beside the program.
"""

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from kunlun_jax.config import FREE_SETTINGS, ExperimentConfig, to_mapping
from kunlun_jax.metrics.comparison import METRICS, measure
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import UserBootstrap
from kunlun_jax.shapes import Float
from kunlun_jax.training.manifest import first_difference
from kunlun_jax.training.workdir import WorkdirError

NUM_RESAMPLES = 1000
# What may differ between two machines.
_LOCAL_SETTINGS = {("data", "directory"), ("data", "options", "path")}


@dataclasses.dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        content: What the JSON file holds.
        resampled: By metric: the value on the test split, then on every resample of its users; the
            mean over tasks.
    """

    content: dict[str, Any]
    resampled: dict[str, Float[np.ndarray, "draws"]]

    def value(self, metric: str) -> float:
        """Return a metric of the test split."""
        return float(self.resampled[metric][0])

    def standard_error(self, metric: str) -> float:
        """Return the standard deviation of a metric over resamples of the users."""
        return float(self.resampled[metric][1:].std(ddof=1))

    def save(self, directory: pathlib.Path, name: str) -> None:
        """Write both files, the JSON last: where it is, the record is whole.

        Raises:
            OSError: If they cannot be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        arrays, content = (directory / f"{name}.{suffix}" for suffix in ("npz", "json"))
        temporary = directory / f"{name}.tmp"
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.resampled)
        temporary.replace(arrays)
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        temporary.replace(content)


def read_record(
    directory: pathlib.Path, name: str, config: ExperimentConfig | None = None
) -> Record | None:
    """Return the record of a run; None if there is none.

    Args:
        directory: Where the records are.
        name: The run.
        config: Its configuration. Settings that either side does not know are not compared: one
            that came later does not make earlier runs void.

    Raises:
        WorkdirError: If it is damaged, or of another configuration.
    """
    path = directory / f"{name}.json"
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            record = Record(content, {metric: arrays[metric] for metric in METRICS})
        known = content["config"]
    except (EOFError, OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise WorkdirError(f"{path}: expected the record of a run: {error}") from error
    if config is not None:
        wanted = json.loads(json.dumps(to_mapping(config)))
        difference = first_difference(_shared(known, wanted), _shared(wanted, known))
        if difference:
            where, expected, got = difference
            raise WorkdirError(
                f"{path}: is of a run with config.{where} = {expected!r}, got {got!r}; remove it "
                "to run this one"
            )
    return record


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
