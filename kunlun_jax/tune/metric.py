"""What a search is for: the best value that a metric of the validation split has in a run."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence

from kunlun_jax.config.parsing import require
from kunlun_jax.training.workdir import BEST_STEP, METRICS_FILE

_PREFIX = "val/"
_MINIMIZED = {
    "normalized_entropy": True,
    "normalized_entropy_eval": True,
    "log_loss": True,
    "auc_roc": False,
    "gauc": False,
}
# The mean over several tasks is of this one alone.
_OF_ALL_TASKS = "normalized_entropy"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of the validation split.

    Attributes:
        name: As `metrics.jsonl` has it after "val/"; of one of several tasks, "TASK/metric".
    """

    name: str

    @property
    def minimize(self) -> bool:
        """Whether lower is better."""
        return _MINIMIZED[self.name.rpartition("/")[2]]

    def require_of(self, tasks: Sequence[str]) -> None:
        """Refuse a metric that runs do not have.

        Args:
            tasks: Names of the data set's tasks.

        Raises:
            ConfigError: If it is none of theirs.
        """
        known = list(_MINIMIZED)
        if len(tasks) > 1:
            known = [_OF_ALL_TASKS, *(f"{task}/{name}" for task in tasks for name in _MINIMIZED)]
        require(self.name in known, "--metric", f"one of {', '.join(known)}", self.name)

    def values(self, workdir: pathlib.Path, *, until: int) -> list[float | None]:
        """Return its value at every evaluation of a run; None where it is no number.

        Args:
            workdir: The run's working directory.
            until: The last step that counts.
        """
        path = workdir / METRICS_FILE
        lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
        key = f"{_PREFIX}{self.name}"
        # The final report has it, too, of a step that was evaluated before.
        of_evaluations = (
            x for x in lines if key in x and BEST_STEP not in x and x["step"] <= until
        )
        return [line[key] for line in of_evaluations]

    def best(self, values: Sequence[float | None]) -> float | None:
        """Return the best of some values; None if none is a number."""
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        return (min if self.minimize else max)(numbers, default=None)
