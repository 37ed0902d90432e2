"""Carries out the trials of a search, one after the other; each is a run of its own."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax

from kunlun_jax.config import ConfigError, ExperimentConfig, experiment_config, to_mapping
from kunlun_jax.data.opening import open_dataset
from kunlun_jax.files import InUseError, locked
from kunlun_jax.training.loop import NonFiniteError
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import Run, open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import LOCK_FILE, WorkdirError, binding, open_workdir
from kunlun_jax.tune.metric import Metric
from kunlun_jax.tune.results import keep_results, outcome_line, settings_line
from kunlun_jax.tune.space import Search, changed
from kunlun_jax.tune.study import FILE, Ending, Study, Trial

RUNS = "trials"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        config: The experiment that every trial changes.
        space: What is searched.
        metric: What for.
        pruner: "median", "hyperband" or "none".
    """

    config: ExperimentConfig
    space: tuple[Search, ...]
    metric: Metric
    pruner: str = "median"


class Outcome(NamedTuple):
    """What came of a trial; the fields are those of `Study.finish`."""

    ending: Ending
    value: float | None = None
    message: str = ""


def carry_out(plan: Plan, workdir: pathlib.Path, num_trials: int) -> list[Trial]:
    """Go on with a search until so many trials have ended, or one is stopped.

    Args:
        plan: The search.
        workdir: Its directory: the study, the results, and a working directory for every trial.
        num_trials: Trials, whatever they end with; more of them than at an earlier start go on.

    Returns:
        The trials that have ended; fewer than `num_trials` after a stop.

    Raises:
        ConfigError: If the metric is none of the data set's tasks.
        DatasetError: If there is no data set that can be trained on.
        WorkdirError: If the directory holds something else, or another search, or is in use.
    """
    dataset = open_dataset(plan.config.data)
    plan.metric.require_of(dataset.schema.labels)
    with _held(workdir), contextlib.closing(_opened(plan, workdir)) as study:
        _bind(study, plan, dataset.identity)
        while len(study.trials()) < num_trials:
            trial = study.next()
            print(f"trial {trial.number:03d} of {num_trials}: {settings_line(trial)}", flush=True)
            outcome = _outcome(plan, study, trial, workdir / RUNS / f"{trial.number:03d}")
            if outcome is None:
                break
            study.finish(trial, *outcome)
            print(outcome_line(plan.metric, *outcome), flush=True)
            keep_results(workdir, plan.metric, study.trials())
            jax.clear_caches()  # the next trial may be another model
        keep_results(workdir, plan.metric, study.trials())
        return study.trials()


def trial_config(plan: Plan, workdir: pathlib.Path, trial: Trial) -> ExperimentConfig:
    """Return the experiment of a trial.

    Args:
        plan: The search.
        workdir: Its directory, whose name services get where the experiment has none.
        trial: The trial.

    Raises:
        ConfigError: If its values do not go together.
    """
    settings = to_mapping(plan.config)
    for name, value in trial.values.items():
        settings = changed(settings, name, value)
    name = plan.config.tracking.run_name or workdir.resolve().name
    return experiment_config(changed(settings, "tracking.run_name", f"{name}_{trial.number:03d}"))


def _opened(plan: Plan, workdir: pathlib.Path) -> Study:
    return Study(
        workdir,
        plan.space,
        minimize=plan.metric.minimize,
        pruner=plan.pruner,
        seed=plan.config.seed,
    )


def _bind(study: Study, plan: Plan, dataset: str) -> None:
    """Have a study be of one search alone: of the plan, on the data set of an identity."""
    settings = json.loads(json.dumps(to_mapping(plan.config)))
    searched = {s.name: f"{s.kind}:{':'.join(map(str, s.values))}" for s in plan.space}
    study.bind("config", binding(settings))
    study.bind("search", searched)
    study.bind("metric", plan.metric.name)
    study.bind("pruner", plan.pruner)
    study.bind("dataset", dataset)


@contextlib.contextmanager
def _held(workdir: pathlib.Path) -> Iterator[None]:
    """Hold the directory of a search; nobody else may use it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        strangers = {path.name for path in workdir.iterdir()} - {LOCK_FILE}
        if strangers and not any(name.startswith(FILE) for name in strangers):
            raise WorkdirError(
                f"{workdir}: expected an empty directory or one of a search (with {FILE}), got "
                f"{min(strangers)!r}"
            )
        with locked(workdir / LOCK_FILE, wait=False):
            yield
    except InUseError as error:
        raise WorkdirError(f"{workdir}: in use by {error}") from None


def _outcome(plan: Plan, study: Study, trial: Trial, directory: pathlib.Path) -> Outcome | None:
    """Run a trial, or go on with it; None: it was stopped, and goes on another time.

    A run whose values do not go together, or that diverges, is a trial that failed.
    """
    try:
        config = trial_config(plan, directory.parents[1], trial)
        with open_workdir(directory, config) as workdir, open_run(config, workdir) as run:
            state = run.resume_or_initialize()
            watch = _Watch(plan.metric, study, trial, run)
            if not watch.ends(int(state.step)):  # an earlier start may have come so far
                step = run.train_step()
                state, complete = run_loop(run, state, step, after_evaluation=watch.ends)
                if not complete:
                    print(f"stopped and saved at step {int(state.step)} of {run.num_steps}")
                    return None
            if watch.pruned:
                return Outcome("pruned")
            if watch.best is None or run.checkpoints.best_step is None:
                return Outcome("failed", message=f"val/{plan.metric.name} is never a number")
            report_best(run, state)  # with which a run is complete
            return Outcome("complete", watch.best)
    except (ConfigError, NonFiniteError) as error:
        return Outcome("failed", message=str(error))


class _Watch:
    """Reports a run's evaluations to the study, and hears whether it is to be pruned.

    What is reported is what `metrics.jsonl` has, so that nothing is lost between two starts.
    """

    def __init__(self, metric: Metric, study: Study, trial: Trial, run: Run) -> None:
        self._metric, self._study, self._trial, self._run = metric, study, trial, run
        self.pruned, self.best = False, None

    def ends(self, step: int) -> bool:
        """Report the evaluations until a step; returns whether the run is pruned there."""
        values = self._metric.values(self._run.workdir, until=step)
        self.best = self._metric.best(values)
        for evaluation, value in enumerate(values, 1):
            self._study.report(self._trial, evaluation, value)
        if values and step < self._run.num_steps:
            self.pruned = self._study.should_prune(self._trial)
        return self.pruned
