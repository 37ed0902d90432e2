"""Metrics that go to services as well: all of them, and whatever these do, the run stays."""

import json
import math
import struct
import sys
import threading
import time
import unittest.mock

import pytest

from kunlun_jax.training import tracking
from kunlun_jax.training import workdir as workdirs
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.tracking import Tracker
from kunlun_jax.training.workdir import open_workdir, open_writer
from tests.training import tiny
from tests.training.runs import TIMED, records

METRICS = {"train/loss": 0.5, "val/auc_roc": math.nan, "val/gauc": math.inf}


class Recording:
    """A service that remembers; it fails where it is told to."""

    def __init__(self, fails_at=None, error=None):
        self.lines, self.ended, self.begun = [], [], 0
        self._fails_at, self._error = fails_at, error

    def __call__(self, config, workdir):
        self.begun += 1
        self._fail("begin")
        return self

    def log(self, step, metrics):
        self._fail("log")
        self.lines.append({"step": step, **metrics})

    def close(self, *, failed):
        self._fail("close")
        self.ended.append(failed)

    def _fail(self, at):
        if at == self._fails_at:
            raise self._error


@pytest.fixture
def config(tmp_path):
    return tiny.experiment(tmp_path / "data", **{"tracking.sinks": ("wandb",)})


def tracked(monkeypatch, config, workdir, **sinks):
    for name, sink in sinks.items():
        monkeypatch.setitem(tracking.SINKS, name, sink)
    return Tracker(config, workdir)


class TestTracker:
    def test_sends_what_is_finite_in_order_and_says_how_it_ended(
        self, monkeypatch, config, tmp_path
    ):
        for failed in (False, True):
            sink = Recording()
            tracker = tracked(monkeypatch, config, tmp_path, wandb=sink)
            assert sink.begun == 0  # nobody asked for it yet
            for step in range(50):
                tracker.write(step, METRICS)
            tracker.close(failed=failed)
            assert sink.lines == [{"step": step, "train/loss": 0.5} for step in range(50)]
            assert (sink.begun, sink.ended) == (1, [failed])

    @pytest.mark.parametrize("at", ["begin", "log", "close"])
    @pytest.mark.parametrize(
        "error", [ConnectionError("no route\nto host"), SystemExit(3), KeyboardInterrupt()]
    )
    def test_warns_once_in_one_line_and_raises_nothing(
        self, monkeypatch, config, tmp_path, capfd, at, error
    ):
        sink = Recording(at, error)
        tracker = tracked(monkeypatch, config, tmp_path, wandb=sink)
        for step in range(5):
            tracker.write(step, METRICS)
            time.sleep(0.01)
        tracker.close()
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith(f"warning: tracking by wandb ends: {type(error).__name__}")
        assert err.endswith("; the run goes on, and metrics.jsonl has all\n")
        assert err.count("\n") == 1

    def test_a_service_that_hangs_holds_up_neither_the_run_nor_another_service(
        self, monkeypatch, tmp_path, capfd
    ):
        answer, other = threading.Event(), Recording()

        def hang(config, workdir):
            answer.wait()
            return Recording()

        monkeypatch.setattr(tracking, "_LAST_SECONDS", 0.2)
        config = tiny.experiment(tmp_path / "data", **{"tracking.sinks": ("wandb", "mlflow")})
        tracker = tracked(monkeypatch, config, tmp_path, wandb=hang, mlflow=other)
        start = time.monotonic()
        tracker.write(1, METRICS)
        tracker.close()
        assert time.monotonic() - start < 5
        assert "tracking by wandb ends: no end within 0 s" in capfd.readouterr().err
        assert (other.lines, other.ended) == ([{"step": 1, "train/loss": 0.5}], [False])
        answer.set()

    @pytest.mark.parametrize("name", tracking.SINKS)
    def test_a_missing_package_is_named_with_its_extra(self, monkeypatch, tmp_path, capfd, name):
        for module in (name, f"{name}.entities"):
            monkeypatch.setitem(sys.modules, module, None)
        config = tiny.experiment(tmp_path / "data", **{"tracking.sinks": (name,)})
        tracker = Tracker(config, tmp_path)
        tracker.write(1, METRICS)
        tracker.close()
        err = capfd.readouterr().err
        assert f"pip install 'kunlun_jax[{name}]'" in err
        assert err.count("\n") == 1

    def test_without_services_there_is_no_thread(self, tmp_path):
        before = threading.active_count()
        tracker = Tracker(tiny.experiment(tmp_path / "data"), tmp_path)
        tracker.write(1, METRICS)
        assert threading.active_count() == before
        tracker.close()


def test_a_process_that_writes_no_metrics_asks_no_service(monkeypatch, config, tmp_path):
    sink = Recording()
    tracker = tracked(monkeypatch, config, tmp_path, wandb=sink)
    monkeypatch.setattr(workdirs, "is_first", lambda: False)
    open_writer(tmp_path, from_step=0, also=tracker.write).write(1, METRICS)
    tracker.close()
    assert (sink.begun, sink.lines) == (0, [])


class TestRequests:
    """What is asked of the services, by modules in their place; the slow tests ask the real ones.

    Of two starts of one run, the first one makes it there, with the configuration.
    """

    def twice(self, config, workdir):
        for step in (1, 2):
            tracker = Tracker(config, workdir)
            tracker.write(step, METRICS)
            tracker.close()

    def test_of_wandb(self, monkeypatch, config, tmp_path, capfd):
        wandb = unittest.mock.MagicMock()
        wandb.init.return_value.id = "abc"
        monkeypatch.setitem(sys.modules, "wandb", wandb)
        monkeypatch.delenv("WANDB_DIR", raising=False)
        self.twice(config, tmp_path)
        first, second = (call.kwargs for call in wandb.init.call_args_list)
        expected = {"project": "kunlun_jax", "name": tmp_path.name, "dir": str(tmp_path)}
        assert first.items() >= {**expected, "id": None, "resume": "allow"}.items()
        assert second.items() >= {**expected, "id": "abc", "resume": "allow"}.items()
        assert first["config"]["model.streams.purchase.max_len"] == 8
        assert second["config"] is None
        assert wandb.Settings.call_args.kwargs == {"console": "off", "silent": True}
        logged = [call.args[0] for call in wandb.init.return_value.log.call_args_list]
        assert logged == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.5}]
        assert capfd.readouterr().err == ""

    def test_of_mlflow(self, monkeypatch, tmp_path, capfd):
        config = tiny.experiment(tmp_path / "data", **{"tracking.sinks": ("mlflow",)})
        mlflow = unittest.mock.MagicMock()
        mlflow.entities.Param, mlflow.entities.Metric = (lambda *a: a), (lambda *a: a)
        monkeypatch.setitem(sys.modules, "mlflow", mlflow)
        monkeypatch.setitem(sys.modules, "mlflow.entities", mlflow.entities)
        client = mlflow.MlflowClient.return_value
        client.get_experiment_by_name.return_value = None
        client.create_experiment.return_value = "7"
        client.create_run.return_value.info.run_id = "abc"
        self.twice(config, tmp_path)
        client.create_experiment.assert_called_once_with("kunlun_jax")
        client.create_run.assert_called_once_with("7", run_name=tmp_path.name)
        client.update_run.assert_called_once_with("abc", status="RUNNING")
        calls = client.log_batch.call_args_list
        assert {call.args for call in calls} == {("abc",)}
        params = [call.kwargs["params"] for call in calls if "params" in call.kwargs]
        assert max(map(len, params)) <= 100  # what an MLflow server takes
        assert ("optimizer.learning_rate", "0.003") in [pair for part in params for pair in part]
        metrics = [call.kwargs["metrics"] for call in calls if "metrics" in call.kwargs]
        assert [(m[0][:2], m[0][3]) for m in metrics] == [(("train/loss", 0.5), s) for s in (1, 2)]
        assert capfd.readouterr().err == ""


def train(directory, workdir, **settings):
    settings = {"model.name": "din", **settings}
    config = tiny.experiment(directory, **settings)
    with open_workdir(workdir, config) as workdir, open_run(config, workdir) as run:
        state, _ = run_loop(run, run.resume_or_initialize(), run.train_step())
        report_best(run, state)


def test_a_run_is_the_same_with_services_and_they_get_every_line(
    finished_runs, tmp_path, monkeypatch, capfd
):
    sink, broken = Recording(), Recording("log", RuntimeError("no"))
    monkeypatch.setitem(tracking.SINKS, "wandb", sink)
    monkeypatch.setitem(tracking.SINKS, "mlflow", broken)
    services = {"tracking.sinks": ("wandb", "mlflow")}
    train(finished_runs[0].parent / "data", tmp_path / "run", **services)
    assert records(tmp_path / "run") == records(finished_runs[0])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sink.lines == list(map(json.loads, lines))  # the final report among them
    assert (sink.begun, sink.ended) == (1, [False])
    assert capfd.readouterr().err.count("warning: tracking by mlflow ends: RuntimeError: no") == 1


def train_in_two_parts(data, workdir, sink):
    settings = {
        "model.name": "din", "tracking.sinks": (sink,), "tracking.project": "shop"
    }  # fmt: skip
    config = tiny.experiment(data, **settings)
    with open_workdir(workdir, config) as directory, open_run(config, directory) as run:
        step = run.train_step()
        state, complete = run_loop(run, run.resume_or_initialize(), step, deadline=0.0)
        assert (int(state.step), complete) == (1, False)
    train(data, workdir, **settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("uri", ["sqlite:///{}/mlflow.db", "file://{}/mlruns"])
def test_a_run_in_mlflow(finished_runs, tmp_path, monkeypatch, uri):
    """A run stopped and resumed is one run there, with its configuration and every metric."""
    mlflow = pytest.importorskip("mlflow", reason="pip install 'kunlun_jax[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    monkeypatch.setattr(tracking, "_LAST_SECONDS", 300)  # MLflow makes a database first
    train_in_two_parts(finished_runs[0].parent / "data", tmp_path / "run", "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("shop")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert found.data.params["optimizer.learning_rate"] == "0.003"
    assert found.data.params["model.streams.purchase.max_len"] == "8"
    lines = records(tmp_path / "run")
    for key in ("train/loss", "val/normalized_entropy", "test/auc_roc", "best/step"):
        history = client.get_metric_history(found.info.run_id, key)
        expected = [(line["step"], line[key]) for line in lines if key in line]
        assert [(metric.step, metric.value) for metric in history] == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # W&B's own
def test_a_run_in_wandb_offline(finished_runs, tmp_path, monkeypatch):
    """A run stopped and resumed has one id there, its configuration once, and every metric."""
    pytest.importorskip("wandb", reason="pip install 'kunlun_jax[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(tracking, "_LAST_SECONDS", 300)
    train_in_two_parts(finished_runs[0].parent / "data", tmp_path / "run", "wandb")
    files = sorted((tmp_path / "run" / "wandb").rglob("run-*.wandb"))
    assert len(files) == 2
    ids, configured, lines = set(), 0, []
    for record in (record for file in files for record in wandb_records(file)):
        if record.HasField("run"):
            ids.add((record.run.run_id, record.run.project, record.run.display_name))
            config = {item.key: item.value_json for item in record.run.config.update}
            configured += config.get("optimizer.learning_rate") == "0.003"
        if record.HasField("history"):
            items = record.history.item
            line = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
            lines.append({key: x for key, x in line.items() if not key.startswith(("_", *TIMED))})
    note = json.loads((tmp_path / "run" / "tracking" / "wandb.json").read_text())
    assert (ids, configured) == ({(note["run"], "shop", "run")}, 1)
    assert lines == records(tmp_path / "run")


def wandb_records(file):
    """Yield the records of a file of W&B: a log as LevelDB has it, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts, block = file.read_bytes(), 7, b"", 32_768
    while at + 7 <= len(data):
        if block - at % block < 7:  # a block's last bytes, too few for a header
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield Record.FromString(parts)
            parts = b""
