"""The Optuna study of a working directory: what it was told outlives a kill.

A study that was stopped and goes on proposes the trials that it would have proposed: sampler and
pruner are made anew for every trial, from the seed, the trial's number and what is known.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from kunlun_jax.files import discard_parts, first_difference, part_of, settle
from kunlun_jax.training.workdir import WorkdirError
from kunlun_jax.tune.space import Search

FILE = "study.db"
_NAME = "tune"
_PRUNERS = {
    "median": optuna.pruners.MedianPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "none": optuna.pruners.NopPruner,
}
_MESSAGE = "message"

Ending = Literal["complete", "pruned", "failed"]
_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_ENDINGS: dict[TrialState, Ending] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial, under way or ended.

    Attributes:
        number: From 0.
        values: Of every setting that is searched, by its dotted name.
        ending: How it ended; None: it has not.
        value: Of a complete one its objective, of a pruned one the metric when it was pruned.
        message: Why it failed.
    """

    number: int
    values: Mapping[str, Any]
    ending: Ending | None = None
    value: float | None = None
    message: str = ""


class Study:
    """Proposes trials, decides which are pruned, and keeps what came of them."""

    def __init__(
        self,
        workdir: pathlib.Path,
        space: Sequence[Search],
        *,
        minimize: bool,
        pruner: str,
        seed: int,
    ) -> None:
        """Open the study of a directory, or begin it; nobody else may have it open.

        Args:
            workdir: The directory.
            space: What is searched.
            minimize: Whether the lowest objective is the best.
            pruner: "median", "hyperband" or "none".
            seed: Of the sampler.

        Raises:
            WorkdirError: If what is there is no study.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # In one order, whatever order they are given in: what is drawn depends on it.
        space = sorted(space, key=lambda search: search.name)
        self._space = {search.name: search for search in space}
        self._distributions = {search.name: _distribution(search) for search in space}
        self._pruner, self._seed, self._path = pruner, seed, workdir / FILE
        with self._explained():
            discard_parts(self._path)
            if not self._path.exists():
                part = part_of(self._path)
                storage = _storage(part)
                direction = "minimize" if minimize else "maximize"
                optuna.create_study(storage=storage, study_name=_NAME, direction=direction)
                storage.engine.dispose()
                settle(part, self._path)
            self._storage = _storage(self._path)
            self._study = optuna.load_study(storage=self._storage, study_name=_NAME)
            self._id = self._storage.get_study_id_from_name(_NAME)

    def bind(self, what: str, content: Any) -> None:
        """Note what all trials have in common, or compare it with what was noted.

        Args:
            what: Its name.
            content: JSON.

        Raises:
            WorkdirError: If it is something else than at an earlier start.
        """
        known = self._study.user_attrs
        if what not in known:
            self._study.set_user_attr(what, content)
            return
        if found := first_difference(known[what], content, what):
            where, expected, got = found
            raise WorkdirError(
                f"{self._path.parent}: holds a study with {where} = {expected!r:.100}, got "
                f"{got!r:.100}; choose another --workdir"
            )

    def trials(self) -> list[Trial]:
        """Return the trials that have ended, in their order."""
        states = tuple(_ENDINGS)
        return [self._trial(t) for t in self._study.get_trials(deepcopy=False, states=states)]

    def next(self) -> Trial:
        """Return the trial that an earlier start has left under way, or a new one."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        number = len(self._study.get_trials(deepcopy=False))
        # Both are asked within a trial: with Hyperband, the sampler asks the pruner.
        self._study.pruner = _PRUNERS[self._pruner]()
        for frozen in running:
            if frozen.params.keys() == self._distributions.keys():
                return self._trial(frozen)
            # It was killed while it was proposed, and has run nothing.
            self._study.tell(frozen.number, state=TrialState.FAIL)
        seed = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]))
        proposed = self._study.ask(self._distributions)
        return self._trial(self._frozen(proposed.number))

    def report(self, trial: Trial, evaluation: int, value: float | None) -> None:
        """Note a metric of a trial under way; what is known already stays.

        Args:
            trial: The trial.
            evaluation: Which of its evaluations, from 1.
            value: The metric; None: it is no number.
        """
        if evaluation not in self._frozen(trial.number).intermediate_values:
            self._storage.set_trial_intermediate_value(
                self._trial_id(trial.number), evaluation, math.nan if value is None else value
            )

    def should_prune(self, trial: Trial) -> bool:
        """Return whether a trial under way, by what was reported of it, is not worth more."""
        return bool(self._study.pruner.prune(self._study, self._frozen(trial.number)))

    def finish(
        self, trial: Trial, ending: Ending, value: float | None = None, message: str = ""
    ) -> None:
        """Note how a trial ended.

        Args:
            trial: The trial.
            ending: How.
            value: The objective of a complete one.
            message: Why it failed.
        """
        if message:
            self._storage.set_trial_user_attr(self._trial_id(trial.number), _MESSAGE, message)
        self._study.tell(trial.number, value, state=_STATES[ending])

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _trial(self, frozen: FrozenTrial) -> Trial:
        values = {
            n: s.value(frozen.params[n]) for n, s in self._space.items() if n in frozen.params
        }
        ending = _ENDINGS.get(frozen.state)
        message = frozen.user_attrs.get(_MESSAGE, "")
        return Trial(frozen.number, values, ending, frozen.value, message)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:  # of SQLite, SQLAlchemy, Alembic or Optuna
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise WorkdirError(
                f"{self._path}: expected the study of a search: {what:.200}"
            ) from error


def _storage(path: pathlib.Path) -> optuna.storages.RDBStorage:
    # Optuna fills in braces; SQLAlchemy takes what follows a question mark for options.
    name = str(path.absolute()).replace("{", "{{").replace("}", "}}")
    if "?" in name:
        raise ValueError("no '?' may be in the path of a study")
    return optuna.storages.RDBStorage(f"sqlite:///{name}")


def _distribution(search: Search) -> BaseDistribution:
    if search.kind == "choice":
        return CategoricalDistribution(search.labels)
    low, high = search.values
    if search.is_whole:
        return IntDistribution(int(low), int(high), log=search.kind == "log")
    return FloatDistribution(low, high, log=search.kind == "log")
