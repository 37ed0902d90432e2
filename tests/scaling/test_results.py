import json
import math

import numpy as np
import pytest

from configs.scaling import smoke
from kunlun_jax.config import ConfigError
from kunlun_jax.scaling import runs
from kunlun_jax.scaling.page import MISSING, Speeds, render
from kunlun_jax.scaling.records import RECORDS_FILE, add_record
from kunlun_jax.scaling.report import find_laws, write_report
from kunlun_jax.scaling.results import collect
from kunlun_jax.scaling.runs import carry_out
from kunlun_jax.scaling.study import planned_runs, study_config
from kunlun_jax.training.workdir import WorkdirError
from tests.scaling.planted import planted_record


@pytest.fixture
def values():
    """The smoke study as plain values, with two seeds."""
    return {**smoke.get_config().to_dict(), "seeds": (0, 1)}


@pytest.fixture
def study(values):
    return study_config(values)


class Hours:
    """Stands for the module `time`: an hour passes with every run."""

    def __init__(self):
        self.passed = 0.0

    def monotonic(self):
        return self.passed


@pytest.fixture
def planted(monkeypatch):
    """Plants what runs measure; returns the names of those carried out."""
    clock, names = Hours(), []

    def run(planned, directory, deadline, command):
        del directory, deadline, command
        clock.passed += 1
        names.append(planned.name)
        return planted_record(planned)

    monkeypatch.setattr(runs, "_run", run)
    monkeypatch.setattr(runs, "time", clock)
    return names


def forget(directory, *names):
    """Remove the records of runs."""
    path = directory / RECORDS_FILE
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(x for x in lines if json.loads(x).get("name") not in names))


def go(study, path, **options):
    return carry_out(study, path / "work", path / "records", command="the command", **options)


class TestCarryOut:
    def test_stopped_it_goes_on_with_what_is_left(self, study, tmp_path, planted):
        assert not go(study, tmp_path, deadline=3.0)
        assert planted == ["kunlun_seed0", "din_seed0", "hstu_seed0"]
        assert go(study, tmp_path)
        assert planted == [run.name for run in planned_runs(study)]
        assert go(study, tmp_path)
        assert len(planted) == len(planned_runs(study))

    def test_another_machine_needs_the_records_alone(self, study, tmp_path, planted):
        go(study, tmp_path, deadline=3.0)
        (tmp_path / "records").rename(tmp_path / "copied")
        carry_out(study, tmp_path / "new", tmp_path / "copied", command="", deadline=4.0)
        assert planted[3:] == ["kunlun_seed1"]

    def test_only_what_matches(self, study, tmp_path, planted):
        assert not go(study, tmp_path, only="^(din|hstu)_seed1$")
        assert planted == ["din_seed1", "hstu_seed1"]

    def test_no_time_at_all(self, study, tmp_path, planted):
        assert not go(study, tmp_path, deadline=0.0)
        assert planted == []
        assert not (tmp_path / "work").exists()

    def test_a_record_of_another_configuration_is_refused(self, values, tmp_path, planted):
        go(study_config(values), tmp_path)
        values["experiment"]["data"]["batch_size"] = 64
        with pytest.raises(WorkdirError, match="batch_size = 32, got 64; remove it"):
            go(study_config(values), tmp_path)


@pytest.mark.usefixtures("planted")
class TestReport:
    def test_whole_study(self, study, tmp_path):
        go(study, tmp_path)
        page = write_report(study, tmp_path, tmp_path / "records", command="the command")
        assert (tmp_path / "study.md").read_text() == page
        assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
        assert MISSING not in page
        found = json.loads((tmp_path / "study.json").read_text())
        assert [family["name"] for family in found["families"]] == ["kunlun", "din"]
        ratio = found["eta_ratios"]["din"]
        assert ratio["estimate"] == pytest.approx(2.0, rel=0.1)
        assert ratio["low"] < 2.0 < ratio["high"]
        assert (
            f"| din | {ratio['estimate']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}] |" in page
        )

    def test_differences_are_of_the_same_users_and_common_seeds(self, study, tmp_path):
        go(study, tmp_path)
        results = collect(study, tmp_path / "records")
        found = results.difference("din", "normalized_entropy")
        assert found.contains(-0.01 * math.log(16))
        assert found.high - found.low < 0.005  # of one model alone: 0.012
        forget(tmp_path / "records", "din_seed1")
        again = collect(study, tmp_path / "records").difference("din", "normalized_entropy")
        kunlun, din = (results.runs(name)[0] for name in ("kunlun", "din"))
        expected = kunlun.value("normalized_entropy") - din.value("normalized_entropy")
        assert again.estimate == pytest.approx(expected, rel=1e-6)

    def test_an_ablation_is_worse_in_percent_of_the_subject(self, study, tmp_path):
        go(study, tmp_path)
        page = write_report(study, tmp_path, tmp_path / "records", command="")
        row = next(line for line in page.splitlines() if line.startswith("| comp skip |"))
        assert "| neutral |" in row
        percent = float(row.split("|")[5].split()[0])
        assert percent == pytest.approx(-100 * 0.01 / (0.9 - 0.02 * math.log(16)), abs=0.1)

    def test_speeds_measured_side_by_side_replace_those_of_the_runs(self, study, tmp_path):
        go(study, tmp_path)
        results = collect(study, tmp_path / "records")
        of_runs = render(results, None, command="", plot=None)
        speeds = Speeds({"comp_skip": "-40.0%"}, "Side by side.")
        measured = render(results, None, command="", plot=None, speeds=speeds)
        assert "-40.0%" in next(x for x in measured.splitlines() if x.startswith("| comp skip |"))
        assert "different times" in of_runs
        assert "Side by side." in measured
        assert "different times" not in measured

    def test_ablations_say_how_far_seeds_scatter(self, study, tmp_path):
        go(study, tmp_path)
        page = write_report(study, tmp_path, tmp_path / "records", command="")
        runs = collect(study, tmp_path / "records").runs("kunlun").values()
        values = np.array([run.value("normalized_entropy") for run in runs])
        share = values.std(ddof=1) / values.mean()
        assert f"Seeds alone move kunlun's NE by {share:.2%} (standard deviation of 2)" in page
        assert f"by {math.sqrt(2) * share:.2%}." in page
        forget(tmp_path / "records", "kunlun_seed1", "din_seed1")
        page = write_report(study, tmp_path, tmp_path / "records", command="")
        assert "Seeds alone" not in page

    def test_learning_curves_are_of_one_seed(self, study, tmp_path):
        go(study, tmp_path, only="_seed1$")
        go(study, tmp_path, only="^kunlun_size0_seed0$")
        page = write_report(study, tmp_path, tmp_path / "records", command="")
        section = page.split("## While training")[1].split("\n## ")[0]
        assert "seed 1." in section
        header, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
        assert header == "| family | FLOPs/example | 480 | 960 |"
        names = [row.split("|")[1].strip() for row in rows]
        assert names == ["**kunlun**"] * 4 + ["din", "hstu"]
        values = [float(row.split("|")[4]) for row in rows[:4]]
        assert values == sorted(values, reverse=True)
        assert values[-1] == pytest.approx(0.91 - 0.02 * math.log(16), abs=6e-4)

    def test_what_is_not_there_is_missing(self, study, tmp_path):
        go(study, tmp_path, only="^(kunlun|hstu)_seed0$")
        page = write_report(study, tmp_path, tmp_path / "records", command="")
        rows = {line.split("|")[1].strip(): line for line in page.splitlines() if "|" in line}
        assert MISSING in rows["din"]
        assert MISSING in rows["comp skip"]
        assert "The laws are missing" in page
        assert not (tmp_path / "study.png").exists()

    def test_laws_take_the_seeds_that_are_complete(self, study, tmp_path):
        go(study, tmp_path)
        forget(tmp_path / "records", "din_size2_seed1")
        results = collect(study, tmp_path / "records")
        assert results.measurements().entropies.shape == (101, 2, 4, 1)
        assert len(find_laws(results).families[0].runs[0]) == 1

    def test_records_of_other_data_are_refused(self, study, tmp_path):
        go(study, tmp_path)
        forget(tmp_path / "records", "din_size2_seed1")
        run = next(run for run in planned_runs(study) if run.name == "din_size2_seed1")
        record = planted_record(run)
        record.content["dataset"]["counts"] = 1
        add_record(tmp_path / "records", record)
        with pytest.raises(WorkdirError, match=r"runs\.jsonl: din_size2_seed1: expected dataset"):
            collect(study, tmp_path / "records")

    def test_sizes_that_do_not_rise_are_refused(self, values, tmp_path):
        values["families"]["din"] = {"sizes": values["families"]["din"]["sizes"][::-1]}
        study = study_config(values)
        go(study, tmp_path)
        with pytest.raises(ConfigError, match="study: din: expected rising FLOPs"):
            collect(study, tmp_path / "records").measurements()


def test_nothing_at_all(study, tmp_path):
    results = collect(study, tmp_path)
    assert results.difference("din", "auc_roc") is None
    assert find_laws(results) is None
