import dataclasses
import json
import math
import os
import re

import pytest

from kunlun_jax.config import (
    DATA_SETTINGS,
    FREE_SETTINGS,
    ExperimentConfig,
    OptimizerConfig,
    TrainingConfig,
    to_mapping,
)
from kunlun_jax.config.fields import settings_that_bind
from kunlun_jax.training.workdir import MetricWriter, WorkdirError, keep_config, open_workdir

CONFIG = ExperimentConfig()
OTHER = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1.0))


def start(path, config=CONFIG):
    """Open a working directory and leave it again."""
    with open_workdir(path, config) as workdir:
        return workdir


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def record(workdir, text='{"step": 1}\n'):
    (workdir / "metrics.jsonl").write_text(text)


class TestOpenWorkdir:
    def test_a_new_one_keeps_the_resolved_config(self, tmp_path):
        workdir = start(tmp_path / "runs" / "a")
        assert workdir == tmp_path / "runs" / "a"
        assert names(workdir) == ["config.json", "lock"]
        kept = json.loads((workdir / "config.json").read_text())
        assert kept == json.loads(json.dumps(to_mapping(CONFIG)))

    def test_the_same_run_comes_back(self, tmp_path):
        record(start(tmp_path))
        assert start(tmp_path) == tmp_path

    def test_settings_that_change_no_number_may_change(self, tmp_path):
        record(start(tmp_path))
        data = dataclasses.replace(CONFIG.data, prefetch=9, num_threads=2)
        training = dataclasses.replace(CONFIG.training, keep_checkpoints=7)
        changed = dataclasses.replace(CONFIG, data=data, training=training)
        start(tmp_path, changed)
        assert json.loads((tmp_path / "config.json").read_text())["data"]["prefetch"] == 9

    @pytest.mark.parametrize("schedule", ["constant", "cosine"])
    def test_epochs_may_change_where_the_schedule_does_not_depend_on_them(self, tmp_path, schedule):
        optimizer = OptimizerConfig(schedule=schedule)
        config = dataclasses.replace(CONFIG, optimizer=optimizer)
        record(start(tmp_path, config))
        epochs, data = CONFIG.data.num_epochs, dataclasses.replace(CONFIG.data, num_epochs=2.0)
        longer = dataclasses.replace(config, data=data)
        if schedule == "cosine":
            message = re.escape(f"config.data.num_epochs = {epochs}, got 2.0")
            with pytest.raises(WorkdirError, match=message):
                start(tmp_path, longer)
            return
        start(tmp_path, longer)
        file = tmp_path / "config.json"
        assert json.loads(file.read_text())["data"]["num_epochs"] == epochs  # until it has begun
        keep_config(tmp_path, longer)
        assert json.loads(file.read_text())["data"]["num_epochs"] == 2.0

    def test_a_run_of_an_earlier_version_comes_back(self, tmp_path):
        record(start(tmp_path))
        file = tmp_path / "config.json"
        earlier = json.loads(file.read_text())
        earlier["model"]["gdpa"]["activation"] = "gelu_tanh"
        earlier["model"]["wukong"]["merge"] = "concat"
        del earlier["tracking"]
        file.write_text(json.dumps(earlier))
        start(tmp_path)
        assert json.loads(file.read_text()) == json.loads(json.dumps(to_mapping(CONFIG)))
        earlier["model"]["gdpa"]["activation"] = "relu"
        file.write_text(json.dumps(earlier))
        with pytest.raises(WorkdirError, match=r"activation\[0\] = 'relu', got 'gelu_tanh'"):
            start(tmp_path)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (OTHER, r"config\.optimizer\.learning_rate = 0.003, got 1.0"),
            (dataclasses.replace(CONFIG, seed=3), r"config\.seed = 0, got 3"),
            (
                dataclasses.replace(CONFIG, training=TrainingConfig(eval_every=7)),
                r"config\.training\.eval_every = 300, got 7",
            ),
        ],
    )
    def test_refuses_a_run_of_another_config(self, tmp_path, changed, message):
        record(start(tmp_path))
        with pytest.raises(WorkdirError, match=message):
            start(tmp_path, changed)

    def test_a_start_without_a_record_does_not_bind(self, tmp_path):
        start(tmp_path)
        record(tmp_path, "")
        start(tmp_path, OTHER)
        kept = json.loads((tmp_path / "config.json").read_text())
        assert kept["optimizer"]["learning_rate"] == 1.0

    def test_refuses_a_directory_of_something_else(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(WorkdirError, match=r"got 'thesis\.txt'"):
            start(tmp_path)
        assert names(tmp_path) == ["thesis.txt"]

    @pytest.mark.parametrize("text", ['{"model_type": "bert"}', "[1]", "{", "\xff"])
    def test_refuses_another_programs_config(self, tmp_path, text):
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(WorkdirError, match=str(tmp_path)):
            start(tmp_path)
        assert (tmp_path / "config.json").read_text(encoding="latin-1") == text

    @pytest.mark.parametrize("part", ["config.json.0123456789abcdef.part", "config.tmp"])
    def test_a_start_killed_while_writing_the_config_does_not_matter(self, tmp_path, part):
        (tmp_path / part).write_text("{")
        start(tmp_path)
        assert names(tmp_path) == ["config.json", "lock"]

    def test_refuses_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WorkdirError, match="cannot be used as workdir"):
            start(tmp_path / "file")
        with pytest.raises(WorkdirError, match="cannot be used as workdir"):
            start(tmp_path / "file" / "below")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_refuses_what_it_cannot_write(self, tmp_path):
        start(tmp_path / "a")
        (tmp_path / "a").chmod(0o500)
        with pytest.raises(WorkdirError, match="cannot be used as workdir"):
            start(tmp_path / "a")


def test_every_setting_is_free_or_names_the_data_or_binds():
    """A new setting binds until somebody has declared, here too, that no number depends on it."""
    assert {".".join(path) for path in FREE_SETTINGS} == {
        "data.prefetch",
        "data.num_threads",
        "data.columns_directory",
        "data.verify",
        "training.log_every",
        "training.checkpoint_every",
        "training.keep_checkpoints",
        "training.stop_after_skips",
        "training.patience",
        "mesh.data",
        "mesh.fsdp",
        "mesh.tensor",
        "mesh.expert",
        "tracking.sinks",
        "tracking.project",
        "tracking.run_name",
    }
    assert {".".join(path) for path in DATA_SETTINGS} == {
        "data.source",
        "data.options",
        "data.directory",
    }
    bound = settings_that_bind(ExperimentConfig, "itself")
    assert {("seed",), ("data", "seed"), ("training", "eval_every"), ("model", "dim")} <= bound
    assert not bound & (FREE_SETTINGS | DATA_SETTINGS)


class TestLock:
    def test_a_second_start_is_refused_and_told_by_whom(self, tmp_path):
        with open_workdir(tmp_path, CONFIG):
            before = (tmp_path / "config.json").read_text()
            message = f"{tmp_path}: in use by process {os.getpid()} on "
            with pytest.raises(WorkdirError, match=message):
                start(tmp_path, OTHER)
            assert (tmp_path / "config.json").read_text() == before
        start(tmp_path, OTHER)

    def test_an_error_lets_go_of_it(self, tmp_path):
        with pytest.raises(KeyError), open_workdir(tmp_path, CONFIG):
            raise KeyError
        start(tmp_path)

    def test_what_a_killed_start_left_does_not_hold_it(self, tmp_path):
        (tmp_path / "lock").write_text("process 1 on a machine that is gone")
        start(tmp_path)


class TestMetricWriter:
    def write(self, directory, from_step, *records):
        writer = MetricWriter(directory, from_step=from_step)
        for step, metrics in records:
            writer.write(step, metrics)
        writer.close()
        return [json.loads(line) for line in writer.path.read_text().splitlines()]

    def test_one_object_a_line(self, tmp_path):
        lines = self.write(tmp_path, 0, (1, {"train/loss": 0.5}), (2, {"train/loss": 0.25}))
        assert lines == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 0.25}]

    def test_writes_tensorboard_too(self, tmp_path):
        self.write(tmp_path, 0, (1, {"train/loss": 0.5}))
        (file,) = (tmp_path / "tensorboard").iterdir()
        assert b"train/loss" in file.read_bytes()

    def test_what_json_has_no_number_for_is_null(self, tmp_path):
        metrics = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}
        assert self.write(tmp_path, 0, (1, metrics)) == [
            {"step": 1, "a": None, "b": None, "c": None, "d": 1.0}
        ]

    def test_a_run_that_continues_drops_what_comes_again(self, tmp_path):
        self.write(tmp_path, 0, (1, {"a": 1.0}), (2, {"a": 2.0}), (2, {"b": 2.0}), (3, {"a": 3.0}))
        lines = self.write(tmp_path, 2, (3, {"a": 4.0}))
        assert [tuple(line.items()) for line in lines] == [
            (("step", 1), ("a", 1.0)),
            (("step", 2), ("a", 2.0)),
            (("step", 2), ("b", 2.0)),
            (("step", 3), ("a", 4.0)),
        ]

    def test_the_final_report_comes_again(self, tmp_path):
        self.write(tmp_path, 0, (5, {"a": 1.0}), (5, {"best/step": 5.0, "test/a": 1.0}))
        lines = self.write(tmp_path, 5, (5, {"best/step": 5.0, "test/a": 1.0}))
        assert [sorted(line) for line in lines] == [["a", "step"], ["best/step", "step", "test/a"]]

    def test_a_line_cut_off_by_a_kill_is_dropped(self, tmp_path):
        record(tmp_path, '{"step": 1, "a": 1.0}\n{"step": 2, "a"')
        assert self.write(tmp_path, 2, (2, {"a": 2.0})) == [
            {"step": 1, "a": 1.0},
            {"step": 2, "a": 2.0},
        ]

    @pytest.mark.parametrize("text", ["loss 0.5\n", "[1]\n", '{"loss": 1}\n'])
    def test_refuses_a_file_of_something_else(self, tmp_path, text):
        record(tmp_path, text)
        with pytest.raises(WorkdirError, match=r"metrics\.jsonl: expected JSON objects"):
            MetricWriter(tmp_path, from_step=0)
