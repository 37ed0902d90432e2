"""A study: a grid of families x sizes x seeds at equal data, carried out run by run."""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

from kunlun_jax.config import ConfigError, ExperimentConfig, experiment_config
from kunlun_jax.config_parsing import parse, require
from kunlun_jax.data.dataset import read_schema
from kunlun_jax.flops import flops_by_module
from kunlun_jax.scaling.analysis import Measurements
from kunlun_jax.training.run import Run
from kunlun_jax.training.user_losses import USER_LOSSES_FILE, UserLosses
from kunlun_jax.training.workdir import WorkdirError, final_report, open_workdir

RUNS = "runs"
_LEAST_SIZES = 4  # three parameters of the power law, and a size held out


@dataclasses.dataclass(frozen=True)
class FamilyConfig:
    """Models that differ in size only.

    Attributes:
        name: Name of the family.
        sizes: Smallest first; each what it changes, as {"model.dim": 16, ...}.
    """

    name: str
    sizes: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class LearningRateRule:
    """The learning rate of a run follows from its width; nothing is tuned by family or size.

        learning_rate = experiment.optimizer.learning_rate * (reference_dim / model.dim)^exponent

    The tables' Adagrad normalises rows by itself and keeps its rate.

    Attributes:
        reference_dim: Width at which the experiment's own rate holds.
        exponent: 0: one rate for all; 1: the rate that keeps the updates of wide layers alike.
    """

    reference_dim: int
    exponent: float

    def rate(self, config: ExperimentConfig) -> float:
        """Return the peak learning rate of a run."""
        scale = (self.reference_dim / config.model.dim) ** self.exponent
        return config.optimizer.learning_rate * scale


@dataclasses.dataclass(frozen=True)
class BootstrapConfig:
    """How the intervals are made.

    Attributes:
        num_draws: Draws.
        confidence: Share of the draws inside an interval.
        seed: Seed of the draws.
    """

    num_draws: int
    confidence: float
    seed: int


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Everything a study needs.

    Attributes:
        subject: The family whose eta is compared with those of the others.
        seeds: One run each, of every family and size: parameters, draw and order of the examples.
        learning_rate: The rule.
        bootstrap: The intervals.
        families: The families; each has equally many sizes.
        experiment: What all runs share, as in a config file of train.py.
    """

    subject: str
    seeds: tuple[int, ...]
    learning_rate: LearningRateRule
    bootstrap: BootstrapConfig
    families: tuple[FamilyConfig, ...]
    experiment: Any


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of the grid.

    Attributes:
        name: Its directory below the study's.
        family: Index of the family.
        size: Index of the size.
        seed: Index of the seed.
        config: The experiment.
    """

    name: str
    family: int
    size: int
    seed: int
    config: ExperimentConfig


def study_config(values: dict[str, Any]) -> StudyConfig:
    """Turn the nested mapping of a study file into a validated `StudyConfig`.

    Raises:
        ConfigError: On an unknown or missing key, a wrong type or a value out of range.
    """
    study = parse(StudyConfig, values, "study")
    names = [family.name for family in study.families]
    require(study.subject in names, "study.subject", f"one of {names}", study.subject)
    require(study.seeds, "study.seeds", "at least one seed", study.seeds)
    require(len(set(study.seeds)) == len(study.seeds), "study.seeds", "no seed twice", study.seeds)
    rule, bootstrap = study.learning_rate, study.bootstrap
    require(rule.reference_dim > 0, "study.learning_rate.reference_dim", "> 0", rule.reference_dim)
    require(bootstrap.num_draws > 0, "study.bootstrap.num_draws", "> 0", bootstrap.num_draws)
    require(
        0 < bootstrap.confidence < 1,
        "study.bootstrap.confidence",
        "in (0, 1)",
        bootstrap.confidence,
    )
    counts = {family.name: len(family.sizes) for family in study.families}
    require(
        min(counts.values()) >= _LEAST_SIZES and len(set(counts.values())) == 1,
        "study.families",
        f"equally many sizes of every family, at least {_LEAST_SIZES}",
        counts,
    )
    plan(study)
    subject_first = sorted(study.families, key=lambda family: family.name != study.subject)
    return dataclasses.replace(study, families=tuple(subject_first))


def plan(study: StudyConfig) -> list[PlannedRun]:
    """Return the runs in the order in which they are carried out: seed by seed, sizes rising.

    Raises:
        ConfigError: If a run's configuration is wrong, sees an example twice, or a size changes
            more than the model.
    """
    return [
        PlannedRun(
            name=f"{family.name}_size{size}_seed{seed}",
            family=family_index,
            size=size,
            seed=seed_index,
            config=_experiment(study, family, size, seed),
        )
        for seed_index, seed in enumerate(study.seeds)
        for size in range(len(study.families[0].sizes))
        for family_index, family in enumerate(study.families)
    ]


def _experiment(study: StudyConfig, family: FamilyConfig, size: int, seed: int) -> ExperimentConfig:
    where = f"study.families.{family.name}.sizes[{size}]"
    changes = family.sizes[size]
    require(isinstance(changes, dict), where, "a mapping", changes)
    values = _copy(study.experiment)
    for key, value in changes.items():
        require(key.startswith("model."), where, "keys that begin with 'model.'", key)
        _set(values, key, value, where)
    for key in ("seed", "data.seed"):
        _set(values, key, seed, "study.experiment")
    try:
        config = experiment_config(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    epochs = config.data.num_epochs
    require(epochs <= 1, "study.experiment.data.num_epochs", "a single epoch at most", epochs)
    optimizer = dataclasses.replace(
        config.optimizer, learning_rate=study.learning_rate.rate(config)
    )
    return dataclasses.replace(config, optimizer=optimizer)


def _copy(values: Any) -> Any:
    return {k: _copy(v) for k, v in values.items()} if isinstance(values, dict) else values


def _set(values: Any, key: str, value: Any, where: str) -> None:
    """Replace one value of a nested mapping."""
    *path, last = key.split(".")
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    require(isinstance(values, dict) and last in values, where, "known keys", key)
    values[last] = value


def carry_out(study: StudyConfig, workdir: pathlib.Path, *, deadline: float) -> bool:
    """Go on with the study; returns whether every run is complete.

    Args:
        study: The study.
        workdir: Its directory; the runs' own are below `runs`.
        deadline: Reading of `time.monotonic` from which on a run saves and the study stops.

    Raises:
        WorkdirError: If the directory of a run holds one of another configuration.
    """
    runs = plan(study)
    for number, planned in enumerate(runs, start=1):
        directory = workdir / RUNS / planned.name
        if _is_complete(directory, planned.config):
            continue
        if time.monotonic() >= deadline or not _run(
            planned, directory, deadline, number, len(runs)
        ):
            return False
        jax.clear_caches()  # the next run is another model
    return True


def _is_complete(directory: pathlib.Path, config: ExperimentConfig) -> bool:
    if final_report(directory) is None or not (directory / USER_LOSSES_FILE).exists():
        return False
    with open_workdir(directory, config):  # raises if it was another run that was completed
        return True


def _run(
    planned: PlannedRun, directory: pathlib.Path, deadline: float, number: int, of: int
) -> bool:
    """Train one run, or resume it, as train.py does; returns whether it is complete."""
    rate = planned.config.optimizer.learning_rate
    print(f"run {number} of {of}: {planned.name}, learning rate {rate:.2e}", flush=True)
    with open_workdir(directory, planned.config), Run(planned.config, directory) as run:
        state = run.resume_or_initialize()
        trained_before = int(state.step) == run.num_steps
        state, complete = run.train(state, deadline=deadline)
        # A start that finds nothing left but the evaluation does it: time too short for both
        # would otherwise never get past it.
        if not complete or (time.monotonic() >= deadline and not trained_before):
            print(f"stopped and saved at step {int(state.step)} of {run.num_steps}", flush=True)
            return False
        print(run.report_best(state), flush=True)
    return True


def collect(study: StudyConfig, workdir: pathlib.Path) -> Measurements:
    """Read what the runs of a complete study measured.

    Args:
        study: The study.
        workdir: Its directory.

    Raises:
        WorkdirError: If runs were evaluated on different users.
    """
    runs = plan(study)
    schema = read_schema(pathlib.Path(runs[0].config.data.directory))
    grid = len(study.families), len(study.families[0].sizes), len(study.seeds)
    flops = np.zeros(grid[:2])
    found: dict[tuple[int, int, int], UserLosses] = {}
    for planned in runs:
        directory = workdir / RUNS / planned.name
        losses = UserLosses.load(directory)
        first = next(iter(found.values()), losses)
        same = np.array_equal(losses.user_ids, first.user_ids)
        if not (same and np.allclose(losses.weights, first.weights, rtol=1e-6)):
            raise WorkdirError(f"{directory}: expected the test users and weights of all runs")
        found[planned.family, planned.size, planned.seed] = losses
        flops[planned.family, planned.size] = sum(
            flops_by_module(planned.config.model, schema).values()
        )
    losses = np.stack([found[cell].normalized for cell in np.ndindex(*grid)])
    for family, row in zip(study.families, flops, strict=True):
        where = f"study.families.{family.name}.sizes"
        require((np.diff(row) > 0).all(), where, "rising FLOPs", row.tolist())
    return Measurements(
        families=tuple(family.name for family in study.families),
        flops=flops,
        losses=losses.reshape(*grid, -1),
        weights=next(iter(found.values())).weights,
    )
