"""The records of a study, as tables and laws need them; what has not been run yet is missing."""

import dataclasses
import pathlib

import numpy as np

from kunlun_jax.config.parsing import require
from kunlun_jax.scaling.analysis import Measurements
from kunlun_jax.scaling.bootstrap import Interval, draw_seeds, interval
from kunlun_jax.scaling.records import RECORDS_FILE, Record, read_records, require_same_config
from kunlun_jax.scaling.study import StudyConfig, planned_runs
from kunlun_jax.training.workdir import WorkdirError


@dataclasses.dataclass(frozen=True)
class Results:
    """What there is of a study.

    Attributes:
        study: The study.
        records: By group (family or ablation), size (-1: the largest) and seed.
        num_runs: Runs that the whole study has.
    """

    study: StudyConfig
    records: dict[tuple[str, int, int], Record]
    num_runs: int

    def runs(self, group: str, size: int = -1) -> dict[int, Record]:
        """Return the records of a family's size, or of an ablation, by seed."""
        return {
            seed: record
            for (name, index, seed), record in self.records.items()
            if (name, index) == (group, size)
        }

    def difference(self, group: str, metric: str) -> Interval | None:
        """Return the subject's metric minus that of another group, of the seeds that both have.

        Args:
            group: A family, at its largest, or an ablation.
            metric: Its name.

        Returns:
            The interval over users and, from two seeds on, seeds. None: no seed is common.
        """
        subject, other = self.runs(self.study.subject), self.runs(group)
        seeds = sorted(set(subject) & set(other))
        if not seeds:
            return None
        values = np.array(
            [[[runs[seed].resampled[metric] for seed in seeds]] for runs in (subject, other)],
            np.float64,
        )
        drawn = draw_seeds(np.moveaxis(values, -1, 0))[..., 0]
        return interval(drawn[:, 0] - drawn[:, 1], self.study.confidence)

    def measurements(self) -> Measurements | None:
        """Return what laws are fitted to: the seeds that every lawful family and size has.

        Returns:
            The measurements; None: no seed is complete, or the study has one size only.

        Raises:
            ConfigError: If the FLOPs of a family do not rise with its sizes.
        """
        study = self.study
        sizes = [*range(study.num_sizes - 1), -1]
        cells = [[self.runs(family.name, size) for size in sizes] for family in study.lawful]
        seeds = [s for s in study.seeds if all(s in cell for row in cells for cell in row)]
        if not seeds or not study.lawful:
            return None
        flops = np.array([[cell[seeds[0]].content["flops"] for cell in row] for row in cells])
        for family, row in zip(study.lawful, flops, strict=True):
            require((np.diff(row) > 0).all(), f"study: {family.name}", "rising FLOPs", row.tolist())
        entropies = np.array(
            [
                [[cell[seed].resampled["normalized_entropy"] for seed in seeds] for cell in row]
                for row in cells
            ],
            np.float64,
        )
        return Measurements(
            tuple(family.name for family in study.lawful),
            flops.astype(np.float64),
            np.moveaxis(entropies, -1, 0),
        )


def collect(study: StudyConfig, records: pathlib.Path) -> Results:
    """Read the records that a study has.

    Args:
        study: The study.
        records: Where their file is.

    Raises:
        WorkdirError: If one is damaged, of another configuration, or of other data than the first.
    """
    found: dict[tuple[str, int, int], Record] = {}
    planned, kept = planned_runs(study), read_records(records)
    for run in planned:
        record = kept.get(run.name)
        if record is None:
            continue
        require_same_config(records, record, run.config)
        first = next(iter(found.values()), record)
        for key in ("dataset", "num_resamples"):
            if record.content[key] != first.content[key]:
                raise WorkdirError(
                    f"{records / RECORDS_FILE}: {run.name}: expected {key} as in the other "
                    f"records, {first.content[key]}, got {record.content[key]}"
                )
        found[run.group, run.size, run.seed] = record
    return Results(study, found, len(planned))
