import dataclasses
import functools
import pathlib
import types

import numpy as np
import pytest

from configs.scaling import complete_journey, smoke
from kunlun_jax.config import ConfigError
from kunlun_jax.data.build import open_or_build
from kunlun_jax.data.sources import SOURCES
from kunlun_jax.scaling import runs
from kunlun_jax.scaling.records import METRICS, read_record
from kunlun_jax.scaling.runs import carry_out
from kunlun_jax.scaling.study import planned_runs, study_config
from tests.processes import run_python
from tests.training.runs import records

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data set of the smoke study, built."""
    directory = tmp_path_factory.mktemp("data") / "smoke"
    options = smoke.get_config().experiment.data.options.to_dict()
    source = "synthetic"
    open_or_build(source, SOURCES[source].options(**options), str(directory))
    return directory


@pytest.fixture
def values(data):
    """The smoke study as plain values."""
    study = smoke.get_config()
    study.experiment.data.directory = str(data)
    return study.to_dict()


class TestConfig:
    def test_every_study_is_valid(self):
        study = study_config(complete_journey.get_config().to_dict())
        assert len(planned_runs(study)) == (4 * 5 + 2) * 3 + len(study.ablations)
        assert study.families[0].name == study.subject == "kunlun"
        assert [len(family.sizes) for family in study.lawful] == [5] * 4
        study_config(smoke.get_config().to_dict())

    def test_runs_differ_in_model_seed_and_learning_rate_alone(self, values):
        study = study_config({**values, "seeds": (3, 5)})
        first, *others = planned_runs(study)
        assert (first.config.seed, first.config.data.seed) == (3, 3)
        for run in others:
            config = run.config
            same = config.data.batch_size, config.data.num_epochs, config.training
            expected = first.config.data
            assert same == (expected.batch_size, expected.num_epochs, first.config.training)
            assert config.optimizer.learning_rate == pytest.approx(
                3e-3 * (32 / config.model.dim) ** 0.5
            )
        assert (
            len({run.name for run in planned_runs(study)}) == len(planned_runs(study)) == 9 * 2 + 1
        )

    def test_a_family_may_have_a_rate_of_its_own(self, values):
        values["families"]["hstu"] = {"sizes": ({"model.dim": 8, "optimizer.learning_rate": 0.01},)}
        rates = {
            run.group: (run.config.optimizer.learning_rate, run.config.model.dim)
            for run in planned_runs(study_config(values))
        }
        assert rates["hstu"] == (pytest.approx(0.01 * (32 / 8) ** 0.5), 8)
        rate, dim = rates["din"]
        assert rate == pytest.approx(3e-3 * (32 / dim) ** 0.5)

    def test_the_most_telling_runs_come_first(self, values):
        names = [run.name for run in planned_runs(study_config({**values, "seeds": (0, 1)}))]
        assert names[:4] == ["kunlun_seed0", "din_seed0", "hstu_seed0", "kunlun_seed1"]
        assert names[6:8] == ["kunlun_size0_seed0", "din_size0_seed0"]
        assert names[-1] == "ablation_comp_skip_seed0"

    def test_an_ablation_is_the_largest_subject_but_for_its_changes(self, values):
        configs = {run.name: run.config for run in planned_runs(study_config(values))}
        ablation, subject = configs["ablation_comp_skip_seed0"], configs["kunlun_seed0"]
        assert ablation == dataclasses.replace(
            subject, model=dataclasses.replace(subject.model, comp_skip=False)
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"subject": "sasrec"}, "study.subject: expected one of"),
            ({"seeds": ()}, "study.seeds: expected at least one seed"),
            ({"seeds": (1, 1)}, "study.seeds: expected no seed twice"),
            ({"sead": 3}, "unknown key 'sead'"),
            ({"confidence": 1.0}, r"study.confidence: expected in \(0, 1\)"),
            ({"ablation_seeds": (2, 2)}, "study.ablation_seeds: expected no seed twice"),
            ({"ablations": {"x": {"changes": 3, "paper": ""}}}, "study: x: expected a mapping"),
            ({"learning_rate": {"reference_dim": 0, "exponent": 1}}, "reference_dim: expected > 0"),
            ({"learning_rate": {"reference_dim": "wide", "exponent": 1}}, "expected int"),
        ],
    )
    def test_bad_value(self, values, change, message):
        with pytest.raises(ConfigError, match=message):
            study_config({**values, **change})

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            (
                {"data.num_epochs": 0.5},
                "keys that begin with 'model.', or 'optimizer.learning_rate'",
            ),
            ({"optimizer.b1": 0.5}, "got 'optimizer.b1'"),
            ({"model.dmi": 8}, "expected known keys, got 'model.dmi'"),
            ({"model.streams.cart.window": 8}, "expected known keys"),
            ({"model.dim": -8}, "study: din: config.model.dim"),
            (8, "expected a mapping"),
        ],
    )
    def test_bad_size(self, values, size, message):
        values["families"]["din"] = {"sizes": (size,) * 4}
        with pytest.raises(ConfigError, match=message):
            study_config(values)

    def test_too_few_or_unequal_sizes(self, values):
        values["families"]["din"] = {"sizes": values["families"]["din"]["sizes"][:3]}
        with pytest.raises(ConfigError, match="at least 4 and equally many"):
            study_config(values)

    def test_more_than_one_epoch(self, values):
        values["experiment"]["data"]["num_epochs"] = 1.5
        with pytest.raises(ConfigError, match="a single epoch at most"):
            study_config(values)


def test_a_run_stopped_at_its_deadline_resumes_exactly(values, tmp_path, monkeypatch):
    study = study_config({**values, "subject": "din"})
    first = planned_runs(study)[0]
    assert first.config.model.name == "din"
    monkeypatch.setattr(runs, "planned_runs", lambda study: [first])
    clock = types.SimpleNamespace(monotonic=lambda: 0.0, process_time=lambda: 0.0)
    monkeypatch.setattr(runs, "time", clock)  # the deadline is the loop's alone
    options = {"command": "the command"}
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert carry_out(study, whole, whole / "records", **options)
    assert not carry_out(study, pieces, pieces / "records", deadline=1e-9, **options)
    assert not (pieces / "records").exists()
    assert carry_out(study, pieces, pieces / "records", **options)
    assert records(pieces / "runs" / first.name) == records(whole / "runs" / first.name)
    expected, got = (read_record(x / "records", first.name, first.config) for x in (whole, pieces))
    for metric in METRICS:
        np.testing.assert_array_equal(got.resampled[metric], expected.resampled[metric])
        # What was kept is what the metrics say; their AUC comes from a histogram.
        assert expected.value(metric) == pytest.approx(expected.content["test"][metric], abs=1e-4)
    assert expected.content["parameters"] > 0
    assert expected.content["examples"] == 960
    assert expected.content["num_users"] <= 100


program = functools.partial(run_python, "-m", "kunlun_jax.scaling")


def test_bad_input_is_one_line_and_code_one(tmp_path):
    study = tmp_path / "study.py"
    study.write_text(
        "from configs.scaling import smoke\n\ndef get_config():\n    study = smoke.get_config()\n"
        "    study.subject = 'sasrec'\n    return study\n"
    )
    result = program(f"--study={study}", f"--workdir={tmp_path / 'w'}")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: study.subject: expected one of")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_the_smoke_study_from_the_command_line(tmp_path, data):
    arguments = (
        "--study=configs/scaling/smoke.py",
        f"--study.experiment.data.directory={data}",
        f"--workdir={tmp_path / 'w'}",
    )
    stopped = program(*arguments, "--max-minutes=0.2")
    assert stopped.returncode == 0, stopped.stderr
    assert "the same command continues" in stopped.stdout
    complete = program(*arguments)
    assert complete.returncode == 0, complete.stderr
    assert complete.stdout.count("# Smoke\n") == 1
    assert "the same command continues" not in complete.stdout
    assert (tmp_path / "w" / "study.md").exists()
