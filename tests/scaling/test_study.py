import json
import math
import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from configs.scaling import complete_journey, smoke
from kunlun_jax.config import ConfigError
from kunlun_jax.data.build import open_or_build
from kunlun_jax.data.sources import SOURCES
from kunlun_jax.scaling import study as studies
from kunlun_jax.scaling.report import write_report
from kunlun_jax.scaling.study import carry_out, collect, plan, study_config
from kunlun_jax.training.user_losses import UserLosses
from kunlun_jax.training.workdir import BEST_STEP, WorkdirError
from tests.training.runs import records

ROOT = pathlib.Path(__file__).parents[2]
RATE = 0.2


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
        assert len(plan(study)) == 4 * 5 * 3
        assert study.families[0].name == study.subject == "kunlun"
        study_config(smoke.get_config().to_dict())

    def test_runs_differ_in_model_seed_and_learning_rate_alone(self, values):
        study = study_config({**values, "seeds": (3, 5)})
        first, *others = plan(study)
        assert (first.config.seed, first.config.data.seed) == (3, 3)
        for run in others:
            config = run.config
            same = config.data.batch_size, config.data.num_epochs, config.training
            expected = first.config.data
            assert same == (expected.batch_size, expected.num_epochs, first.config.training)
            assert config.optimizer.learning_rate == pytest.approx(
                3e-3 * (16 / config.model.dim) ** 0.5
            )
        assert len({run.name for run in plan(study)}) == len(plan(study)) == 16

    def test_small_sizes_of_all_families_come_first(self, values):
        names = [run.name for run in plan(study_config(values))]
        assert names[:3] == ["kunlun_size0_seed0", "din_size0_seed0", "kunlun_size1_seed0"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"subject": "hstu"}, r"study.subject: expected one of \['din', 'kunlun'\]"),
            ({"seeds": ()}, "study.seeds: expected at least one seed"),
            ({"seeds": (1, 1)}, "study.seeds: expected no seed twice"),
            ({"sead": 3}, "unknown key 'sead'"),
            (
                {"bootstrap": {"num_draws": 0, "confidence": 0.9, "seed": 0}},
                "num_draws: expected > 0",
            ),
            (
                {"bootstrap": {"num_draws": 9, "confidence": 1.0, "seed": 0}},
                r"expected in \(0, 1\)",
            ),
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
            ({"data.num_epochs": 0.5}, "keys that begin with 'model.'"),
            ({"model.dmi": 8}, "expected known keys, got 'model.dmi'"),
            ({"model.streams.cart.window": 8}, "expected known keys"),
            ({"model.dim": -8}, r"families.din.sizes\[0\]: config.model.dim"),
            (8, "expected a mapping"),
        ],
    )
    def test_bad_size(self, values, size, message):
        values["families"]["din"] = {"sizes": (size,) * 4}
        with pytest.raises(ConfigError, match=message):
            study_config(values)

    def test_too_few_or_unequal_sizes(self, values):
        values["families"]["din"] = {"sizes": values["families"]["din"]["sizes"][:3]}
        with pytest.raises(ConfigError, match="equally many sizes"):
            study_config(values)

    def test_more_than_one_epoch(self, values):
        values["experiment"]["data"]["num_epochs"] = 1.5
        with pytest.raises(ConfigError, match="a single epoch at most"):
            study_config(values)


class Clock:
    """Stands for the module `time`: an hour passes with every run."""

    def __init__(self):
        self.hours = 0.0

    def monotonic(self):
        return self.hours


class PlantedRun:
    """Stands for a training run: its NE follows a law of its width, and it takes an hour."""

    def __init__(self, config, workdir):
        self.config, self.workdir, self.num_steps = config, workdir, 10

    def __enter__(self):
        return self

    def __exit__(self, *details):
        pass

    def resume_or_initialize(self):
        return types.SimpleNamespace(step=0)

    def train(self, state, *, deadline):
        studies.time.hours += 1
        state.step = 10
        return state, True

    def report_best(self, state):
        gain = {"kunlun": 0.02, "din": 0.01}[self.config.model.name]
        generator = np.random.default_rng([self.config.model.dim, int(1000 * gain)])
        ne = 0.9 - gain * math.log(self.config.model.dim) + generator.normal(0, 2e-4, (100, 1))
        entropy = -RATE * math.log(RATE) - (1 - RATE) * math.log(1 - RATE)
        users = np.arange(100)
        UserLosses(users, 50 * entropy * ne, np.full(100, 50.0), np.array([RATE])).save(
            self.workdir
        )
        record = {"step": 10, BEST_STEP: 10.0}
        (self.workdir / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        return "reported"


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(studies, "Run", PlantedRun)
    monkeypatch.setattr(studies, "time", Clock())


@pytest.mark.usefixtures("planted")
class TestPieces:
    def test_stopped_it_goes_on_with_what_is_left(self, values, tmp_path, capsys):
        study = study_config(values)
        # Three hours; the third run has no time left for its final evaluation.
        assert not carry_out(study, tmp_path, deadline=3.0)
        done = capsys.readouterr().out
        assert done.count("reported") == 2
        assert "run 3 of 8: kunlun_size1_seed0" in done
        assert "run 4" not in done
        assert carry_out(study, tmp_path, deadline=math.inf)
        rest = capsys.readouterr().out
        assert rest.count("reported") == 6
        assert "run 1 of 8" not in rest
        assert carry_out(study, tmp_path, deadline=math.inf)
        assert capsys.readouterr().out == ""

    def test_time_too_short_for_setup_and_evaluation_still_gets_on(
        self, values, tmp_path, capsys, monkeypatch
    ):
        trained = types.SimpleNamespace(step=10)
        monkeypatch.setattr(PlantedRun, "resume_or_initialize", lambda self: trained)
        assert not carry_out(study_config(values), tmp_path, deadline=1.0)
        assert capsys.readouterr().out.count("reported") == 1

    def test_no_time_at_all(self, values, tmp_path):
        assert not carry_out(study_config(values), tmp_path / "w", deadline=0.0)
        assert not (tmp_path / "w").exists()

    def test_a_run_of_another_study_is_refused(self, values, tmp_path):
        assert carry_out(study_config(values), tmp_path, deadline=math.inf)
        values["experiment"]["data"]["batch_size"] = 64
        with pytest.raises(WorkdirError, match="batch_size = 32, got 64"):
            carry_out(study_config(values), tmp_path, deadline=math.inf)

    def test_a_run_whose_losses_are_lost_is_reported_again(self, values, tmp_path, capsys):
        study = study_config(values)
        assert carry_out(study, tmp_path, deadline=math.inf)
        (tmp_path / "runs/din_size2_seed0/test_user_losses.npz").unlink()
        capsys.readouterr()
        assert carry_out(study, tmp_path, deadline=math.inf)
        assert capsys.readouterr().out.count("reported") == 1

    def test_damaged_losses_are_one_line(self, values, tmp_path):
        study = study_config(values)
        assert carry_out(study, tmp_path, deadline=math.inf)
        (tmp_path / "runs/din_size2_seed0/test_user_losses.npz").write_bytes(b"PK not")
        with pytest.raises(WorkdirError, match="din_size2_seed0"):
            collect(study, tmp_path)

    def test_runs_on_other_users_are_refused(self, values, tmp_path):
        study = study_config(values)
        assert carry_out(study, tmp_path, deadline=math.inf)
        directory = tmp_path / "runs" / "din_size3_seed0"
        losses = UserLosses.load(directory)
        UserLosses(losses.user_ids + 1, losses.losses, losses.weights, losses.label_rates).save(
            directory
        )
        with pytest.raises(WorkdirError, match="expected the test users"):
            collect(study, tmp_path)

    def test_report(self, values, tmp_path):
        study = study_config(values)
        assert carry_out(study, tmp_path, deadline=math.inf)
        page = write_report(study, tmp_path, command="the command")
        assert (tmp_path / "study.md").read_text() == page
        assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
        found = json.loads((tmp_path / "study.json").read_text())
        assert [family["name"] for family in found["families"]] == ["kunlun", "din"]
        smallest = found["families"][0]["runs"][0][0]
        assert smallest == pytest.approx(0.9 - 0.02 * math.log(4), abs=1e-3)
        assert f"{smallest:.4f}" in page
        ratio = found["eta_ratios"]["din"]
        assert (
            f"| din | {ratio['estimate']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}] |" in page
        )

    def test_sizes_that_do_not_rise_are_refused(self, values, tmp_path):
        sizes = values["families"]["din"]["sizes"]
        values["families"]["din"] = {"sizes": sizes[::-1]}
        study = study_config(values)
        assert carry_out(study, tmp_path, deadline=math.inf)
        with pytest.raises(ConfigError, match="expected rising FLOPs"):
            collect(study, tmp_path)


@pytest.fixture
def keep_every_compilation():
    """Keep quick compilations, too: here are three runs of one small model."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 0.0)
    yield
    jax.config.update(name, before)


@pytest.mark.usefixtures("keep_every_compilation")
def test_a_run_stopped_at_its_deadline_resumes_exactly(values, tmp_path, monkeypatch):
    study = study_config({**values, "subject": "din"})
    first = plan(study)[0]
    assert first.config.model.name == "din"
    monkeypatch.setattr(studies, "plan", lambda study: [first])
    monkeypatch.setattr(studies, "time", Clock())  # stands still: the deadline is the loop's alone
    assert carry_out(study, tmp_path / "whole", deadline=math.inf)
    assert not carry_out(study, tmp_path / "pieces", deadline=1e-9)
    one_step = tmp_path / "pieces" / "runs" / first.name
    assert not (one_step / "test_user_losses.npz").exists()
    assert carry_out(study, tmp_path / "pieces", deadline=math.inf)
    whole = tmp_path / "whole" / "runs" / first.name
    assert records(one_step) == records(whole)
    expected, got = UserLosses.load(whole), UserLosses.load(one_step)
    np.testing.assert_array_equal(got.losses, expected.losses)
    # What was kept is what the metrics say.
    measured = records(whole)[-1]["test/normalized_entropy"]
    assert expected.normalized.sum() / expected.weights.sum() == pytest.approx(measured, rel=1e-6)


def program(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "kunlun_jax.scaling", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_bad_input_is_one_line_and_code_one(tmp_path):
    study = tmp_path / "study.py"
    study.write_text(
        "from configs.scaling import smoke\n\ndef get_config():\n    study = smoke.get_config()\n"
        "    study.subject = 'hstu'\n    return study\n"
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
    assert "# Scaling study: synthetic" in complete.stdout
    assert (tmp_path / "w" / "study.md").exists()
