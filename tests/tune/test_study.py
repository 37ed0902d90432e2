"""The Optuna study: proposals that do not depend on stops, pruning, and what is refused."""

import contextlib
import math

import pytest

from kunlun_jax.training.workdir import WorkdirError
from kunlun_jax.tune import study as studies
from kunlun_jax.tune.space import Search
from kunlun_jax.tune.study import Study

SPACE = (
    Search("rate", "log", (1e-4, 1e-1)),
    Search("layers", "int", (1, 8)),
    Search("name", "choice", ("din", "hstu")),
)


def opened(workdir, pruner="none", seed=3):
    return contextlib.closing(Study(workdir, SPACE, minimize=True, pruner=pruner, seed=seed))


def objective(values):
    return (math.log10(values["rate"]) + 2) ** 2 + values["layers"] / 8 + (values["name"] == "din")


def run(study, count, evaluations=2, worse=lambda trial: 0.0):
    """Carry out so many more trials, whose metric falls towards the objective."""
    for _ in range(count):
        trial, ending = study.next(), "complete"
        for evaluation in range(1, evaluations + 1):
            value = objective(trial.values) + worse(trial) + 1 / evaluation
            study.report(trial, evaluation, value)
            if evaluation < evaluations and study.should_prune(trial):
                ending = "pruned"
                break
        study.finish(trial, ending, value if ending == "complete" else None)


def test_a_study_that_was_stopped_proposes_what_it_would_have(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "pieces").mkdir()
    with opened(tmp_path / "whole", "hyperband") as study:
        run(study, 12)  # beyond those that TPE draws at random
        whole = study.trials()
    for count in (1, 7, 4):
        with opened(tmp_path / "pieces", "hyperband") as study:
            run(study, count)
            pieces = study.trials()
    assert pieces == whole
    assert {trial.ending for trial in whole} >= {"complete"}
    assert len({trial.values["rate"] for trial in whole}) == 12


def test_another_seed_proposes_others(tmp_path):
    found = []
    for seed in (3, 4):
        (tmp_path / str(seed)).mkdir()
        with opened(tmp_path / str(seed), seed=seed) as study:
            found.append(study.next().values)
    assert found[0] != found[1]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_what_is_worse_from_the_start_is_pruned(tmp_path, pruner):
    with opened(tmp_path, pruner) as study:
        run(study, 10, evaluations=4, worse=lambda trial: 10.0 * (trial.number > 5))
        endings = [trial.ending for trial in study.trials()]
    assert "pruned" in endings[6:]
    assert endings[0] == "complete"


def test_a_trial_under_way_is_the_next_one_again_with_what_was_reported(tmp_path):
    with opened(tmp_path) as study:
        first = study.next()
        study.report(first, 1, 0.5)
    with opened(tmp_path) as study:
        again = study.next()
        assert again == first
        study.report(again, 1, 0.5)  # what is known already says nothing new
        study.report(again, 2, None)
        study.finish(again, "pruned")
        (ended,) = study.trials()
        assert (ended.ending, ended.values) == ("pruned", first.values)
        assert study.next().number == 1


def test_a_trial_that_was_killed_before_it_had_values_has_failed(tmp_path, monkeypatch):
    with opened(tmp_path) as study:
        study._study.ask()  # of no settings
        trial = study.next()
        assert trial.number == 1
        assert set(trial.values) == {"rate", "layers", "name"}
        assert [t.ending for t in study.trials()] == ["failed"]


def test_why_a_trial_failed_is_kept(tmp_path):
    with opened(tmp_path) as study:
        study.finish(study.next(), "failed", message="it diverged")
    with opened(tmp_path) as study:
        (trial,) = study.trials()
    assert (trial.ending, trial.value, trial.message) == ("failed", None, "it diverged")


def test_what_all_trials_share_is_kept_and_compared(tmp_path):
    with opened(tmp_path) as study:
        study.bind("config", {"seed": 1, "data": {"batch_size": 8}})
    with opened(tmp_path) as study:
        study.bind("config", {"seed": 1, "data": {"batch_size": 8}})
        with pytest.raises(
            WorkdirError, match=r"holds a study with config\.data\.batch_size = 8, g"
        ):
            study.bind("config", {"seed": 1, "data": {"batch_size": 16}})


def test_a_damaged_study_is_one_line(tmp_path):
    (tmp_path / studies.FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(WorkdirError, match=r"study\.db: expected the study of a search") as raised:
        opened(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["with {braces}", "50 %", "a#b"])
def test_a_directory_may_have_any_name(tmp_path, name):
    (tmp_path / name).mkdir()
    with opened(tmp_path / name) as study:
        study.next()
    assert (tmp_path / name / studies.FILE).exists()


def test_a_question_mark_is_refused(tmp_path):
    (tmp_path / "a?b").mkdir()
    with pytest.raises(WorkdirError, match="no '\\?' may be in the path"):
        opened(tmp_path / "a?b")
