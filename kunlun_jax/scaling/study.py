"""A study: a grid of families x sizes x seeds at equal data, and changes of one of its models."""

import dataclasses
from typing import Any

from kunlun_jax.config import ConfigError, ExperimentConfig, experiment_config
from kunlun_jax.config.parsing import parse, require

RATE = "optimizer.learning_rate"  # beside the model, what a size may change

_LEAST_SIZES = 4  # three parameters of the power law, and a size held out


@dataclasses.dataclass(frozen=True)
class FamilyConfig:
    """Models that differ in size only.

    Attributes:
        name: Name of the family.
        sizes: Smallest first; each what it changes, as {"model.dim": 16, ...}: of the model, and
            perhaps the learning rate that the rule scales. The largest ones of all families are
            compared with each other.
    """

    name: str
    sizes: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class AblationConfig:
    """One thing that is done differently.

    Attributes:
        name: Name of the ablation.
        changes: What it changes of the subject's largest size, as {"model.comp_skip": False}.
        paper: What the paper reports of it, in words.
    """

    name: str
    changes: Any
    paper: str


@dataclasses.dataclass(frozen=True)
class LearningRateRule:
    """The learning rate of a run follows from its width.

        learning_rate = optimizer.learning_rate * (reference_dim / model.dim)^exponent

    Its first factor is the experiment's, or what a family's sizes put in its place.

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
class StudyConfig:
    """Everything a study needs.

    Attributes:
        title: What the data are, for people.
        subject: The family that is compared with the others, and of which parts are taken away.
        seeds: One run each, of every family and size: parameters, draw and order of the examples.
        learning_rate: The rule.
        confidence: Share of the bootstrap draws inside an interval.
        families: The families, the subject first. Those of several sizes have equally many, and
            laws are fitted to them; those of one stand beside the others' largest.
        ablations: Changes of the subject.
        ablation_seeds: One run each, of every ablation.
        experiment: What all runs share, as in a config file of train.py.
    """

    title: str
    subject: str
    seeds: tuple[int, ...]
    learning_rate: LearningRateRule
    confidence: float
    families: tuple[FamilyConfig, ...]
    ablations: tuple[AblationConfig, ...]
    ablation_seeds: tuple[int, ...]
    experiment: Any

    @property
    def lawful(self) -> tuple[FamilyConfig, ...]:
        """The families that laws are fitted to."""
        return tuple(family for family in self.families if len(family.sizes) > 1)

    @property
    def num_sizes(self) -> int:
        """Sizes of the lawful families; 0: there are none."""
        return len(self.lawful[0].sizes) if self.lawful else 0


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        name: Of its directory and of its record.
        group: The family or the ablation.
        size: Index of the size; -1: the largest.
        seed: The seed.
        config: The experiment.
    """

    name: str
    group: str
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
    for name in ("seeds", "ablation_seeds"):
        seeds = getattr(study, name)
        require(len(set(seeds)) == len(seeds), f"study.{name}", "no seed twice", seeds)
    rule, confidence = study.learning_rate, study.confidence
    require(rule.reference_dim > 0, "study.learning_rate.reference_dim", "> 0", rule.reference_dim)
    require(0 < confidence < 1, "study.confidence", "in (0, 1)", confidence)
    counts = {family.name: len(family.sizes) for family in study.families}
    several = set(counts.values()) - {1}
    require(
        len(several) <= 1 and min(several, default=_LEAST_SIZES) >= _LEAST_SIZES,
        "study.families",
        f"one size of a family, or at least {_LEAST_SIZES} and equally many",
        counts,
    )
    planned_runs(study)
    subject_first = sorted(study.families, key=lambda family: family.name != study.subject)
    return dataclasses.replace(study, families=tuple(subject_first))


def planned_runs(study: StudyConfig) -> list[PlannedRun]:
    """Return the runs in the order in which they are carried out.

    The most telling come first: all families at their largest, seed by seed; then the smaller
    sizes, seed by seed; then the ablations.

    Raises:
        ConfigError: If a run's configuration is wrong, sees an example twice, or a size changes
            more than the model and its learning rate.
    """
    largest = [_largest(study, family, seed) for seed in study.seeds for family in study.families]
    smaller = [
        PlannedRun(
            name=f"{family.name}_size{size}_seed{seed}",
            group=family.name,
            size=size,
            seed=seed,
            config=_experiment(study, family.name, family.sizes[size], seed),
        )
        for seed in study.seeds
        for size in range(study.num_sizes - 1)
        for family in study.lawful
    ]
    subject = next(family for family in study.families if family.name == study.subject)
    ablations = [
        PlannedRun(
            name=f"ablation_{ablation.name}_seed{seed}",
            group=ablation.name,
            size=-1,
            seed=seed,
            config=_experiment(
                study, ablation.name, _merged(subject.sizes[-1], ablation.changes), seed
            ),
        )
        for seed in study.ablation_seeds
        for ablation in study.ablations
    ]
    return [*largest, *smaller, *ablations]


def _largest(study: StudyConfig, family: FamilyConfig, seed: int) -> PlannedRun:
    return PlannedRun(
        name=f"{family.name}_seed{seed}",
        group=family.name,
        size=-1,
        seed=seed,
        config=_experiment(study, family.name, family.sizes[-1], seed),
    )


def _merged(size: Any, changes: Any) -> Any:
    both = isinstance(size, dict) and isinstance(changes, dict)
    return {**size, **changes} if both else changes


def _experiment(study: StudyConfig, name: str, changes: Any, seed: int) -> ExperimentConfig:
    where = f"study: {name}"
    require(isinstance(changes, dict), where, "a mapping", changes)
    values = _copy(study.experiment)
    for key, value in changes.items():
        allowed = key.startswith("model.") or key == RATE
        require(allowed, where, f"keys that begin with 'model.', or {RATE!r}", key)
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
