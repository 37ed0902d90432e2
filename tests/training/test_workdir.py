import dataclasses
import json
import math
import os

import pytest

from kunlun_jax.config import ExperimentConfig, OptimizerConfig, TrainingConfig, to_mapping
from kunlun_jax.training.workdir import MetricWriter, WorkdirError, open_workdir

CONFIG = ExperimentConfig()
OTHER = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1.0))


def record(workdir, text='{"step": 1}\n'):
    (workdir / "metrics.jsonl").write_text(text)


class TestOpenWorkdir:
    def test_a_new_one_keeps_the_resolved_config(self, tmp_path):
        workdir = open_workdir(tmp_path / "runs" / "a", CONFIG)
        assert workdir == tmp_path / "runs" / "a"
        assert [path.name for path in workdir.iterdir()] == ["config.json"]
        kept = json.loads((workdir / "config.json").read_text())
        assert kept == json.loads(json.dumps(to_mapping(CONFIG)))

    def test_the_same_run_comes_back(self, tmp_path):
        record(open_workdir(tmp_path, CONFIG))
        assert open_workdir(tmp_path, CONFIG) == tmp_path

    def test_settings_that_change_no_number_may_change(self, tmp_path):
        record(open_workdir(tmp_path, CONFIG))
        data = dataclasses.replace(CONFIG.data, prefetch=9, num_threads=2)
        training = dataclasses.replace(CONFIG.training, keep_checkpoints=7)
        changed = dataclasses.replace(CONFIG, data=data, training=training)
        open_workdir(tmp_path, changed)
        assert json.loads((tmp_path / "config.json").read_text())["data"]["prefetch"] == 9

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (OTHER, r"config\.optimizer\.learning_rate = 0.004, got 1.0"),
            (dataclasses.replace(CONFIG, seed=3), r"config\.seed = 0, got 3"),
            (
                dataclasses.replace(CONFIG, training=TrainingConfig(eval_every=7)),
                r"config\.training\.eval_every = 500, got 7",
            ),
        ],
    )
    def test_refuses_a_run_of_another_config(self, tmp_path, changed, message):
        record(open_workdir(tmp_path, CONFIG))
        with pytest.raises(WorkdirError, match=message):
            open_workdir(tmp_path, changed)

    def test_a_start_without_a_record_does_not_bind(self, tmp_path):
        open_workdir(tmp_path, CONFIG)
        record(tmp_path, "")
        open_workdir(tmp_path, OTHER)
        kept = json.loads((tmp_path / "config.json").read_text())
        assert kept["optimizer"]["learning_rate"] == 1.0

    def test_refuses_a_directory_of_something_else(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(WorkdirError, match=r"got 'thesis\.txt'"):
            open_workdir(tmp_path, CONFIG)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    @pytest.mark.parametrize("text", ['{"model_type": "bert"}', "[1]", "{", "\xff"])
    def test_refuses_another_programs_config(self, tmp_path, text):
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(WorkdirError, match=str(tmp_path)):
            open_workdir(tmp_path, CONFIG)
        assert (tmp_path / "config.json").read_text(encoding="latin-1") == text

    def test_a_start_killed_while_writing_the_config_does_not_matter(self, tmp_path):
        (tmp_path / "config.tmp").write_text("{")
        open_workdir(tmp_path, CONFIG)
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]

    def test_refuses_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WorkdirError, match="cannot be used as workdir"):
            open_workdir(tmp_path / "file", CONFIG)
        with pytest.raises(WorkdirError, match="cannot be used as workdir"):
            open_workdir(tmp_path / "file" / "below", CONFIG)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_refuses_what_it_cannot_write(self, tmp_path):
        open_workdir(tmp_path / "a", CONFIG)
        (tmp_path / "a").chmod(0o500)
        with pytest.raises(WorkdirError, match="cannot be used as workdir"):
            open_workdir(tmp_path / "a", CONFIG)


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
