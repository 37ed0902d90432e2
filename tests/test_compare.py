import json

import numpy as np
import pytest

from kunlun_jax.compare import compare_runs, line
from kunlun_jax.metrics.comparison import difference, measure
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.metrics.user_bootstrap import ComparisonError, UserBootstrap
from kunlun_jax.training.checkpoint import CheckpointError
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import WorkdirError, open_workdir
from tests.training import tiny
from tests.training.runs import records


@pytest.fixture(scope="module")
def result(finished_runs):
    return compare_runs(*map(str, finished_runs), num_resamples=200)


class TestCompareRuns:
    def test_metrics_are_those_of_the_final_reports(self, finished_runs, result):
        for name, workdir in zip("ab", finished_runs, strict=True):
            *_, last = records(workdir)
            for metric, tolerance in (("normalized_entropy", 1e-6), ("auc_roc", 1e-3)):
                reported = last[f"test/{metric}"]
                assert result[name][metric] == pytest.approx(reported, abs=tolerance)
            assert result[name]["step"] == last["best/step"]

    def test_differences_are_b_minus_a_and_inside_their_intervals(self, result):
        for metric, found in result["difference"].items():
            assert found["value"] == result["b"][metric] - result["a"][metric]
            assert found["low"] < found["value"] < found["high"]
        assert json.loads(json.dumps(result)) == result

    def test_a_run_equals_itself(self, finished_runs):
        same = compare_runs(str(finished_runs[0]), str(finished_runs[0]), num_resamples=50)
        for found in same["difference"].values():
            assert found == {"value": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0}

    def test_one_line(self, result):
        text = line(result)
        assert "\n" not in text
        assert f"{result['difference']['normalized_entropy']['value']:+.5f}" in text

    def test_refuses_another_data_set(self, finished_runs, tmp_path):
        config = tiny.experiment(tmp_path / "data", **{"model.name": "din", "data.options.seed": 1})
        with open_workdir(tmp_path / "run", config) as workdir, open_run(config, workdir) as run:
            report_best(run, run_loop(run, run.resume_or_initialize(), run.train_step())[0])
        with pytest.raises(ComparisonError, match="expected two runs of one data set, got synth"):
            compare_runs(str(finished_runs[0]), str(tmp_path / "run"))

    def test_refuses_an_unknown_task(self, finished_runs):
        with pytest.raises(ComparisonError, match=r"task: expected one of \['click'\], got 'buy'"):
            compare_runs(*map(str, finished_runs), task="buy")


class TestOpenFinished:
    def test_refuses_a_directory_without_a_run(self, tmp_path):
        with (
            pytest.raises(WorkdirError, match="expected the working directory of a run"),
            open_finished(tmp_path),
        ):
            pass

    def test_refuses_a_run_that_is_not_finished(self, finished_runs, tmp_path):
        directory = finished_runs[0].parent / "data"
        config = tiny.experiment(directory, **{"model.name": "din"})
        with open_workdir(tmp_path / "run", config):
            pass
        with (
            pytest.raises(CheckpointError, match="expected a finished run, got step 0 of 20"),
            open_finished(tmp_path / "run"),
        ):
            pass


def random_scores(size=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((size, 1)) < 0.4).astype(np.float32)
    logits = rng.normal(size=(size, 1)).astype(np.float32)
    return Scores(rng.integers(20, size=size), logits, labels, np.ones(size, np.float32))


class TestMeasure:
    def test_normalized_entropy_by_hand(self):
        scores = random_scores()
        found = measure(scores, UserBootstrap(scores.user_ids, num_resamples=5), label_rate=0.5)
        p = 1 / (1 + np.exp(-scores.logits[:, 0].astype(np.float64)))
        right = np.where(scores.labels[:, 0] > 0, p, 1 - p)
        assert found.normalized_entropy == pytest.approx(-np.mean(np.log2(right)))

    def test_a_better_model_is_seen(self):
        worse = random_scores()
        logits = worse.logits + 2 * worse.labels - 1
        better = Scores(worse.user_ids, logits, worse.labels, worse.weights)
        bootstrap = UserBootstrap(worse.user_ids, num_resamples=200)
        found = difference(*(measure(x, bootstrap, label_rate=0.4) for x in (worse, better)))
        assert found["normalized_entropy"].high < 0 < found["auc_roc"].low
        assert found["normalized_entropy"].p_value == pytest.approx(2 / 201)

    @pytest.mark.parametrize(("logit", "label"), [(np.nan, None), (0.0, 1.0)])
    def test_refuses_what_has_no_metrics(self, logit, label):
        scores = random_scores()
        scores.logits[3] = logit
        scores.labels[:] = scores.labels if label is None else label
        with pytest.raises(ComparisonError, match=r"expected (finite logits|labels of both)"):
            measure(scores, UserBootstrap(scores.user_ids, num_resamples=5), label_rate=0.4)
