import dataclasses
import json
import threading

import numpy as np
import pytest

from configs.scaling import smoke
from kunlun_jax.metrics.scores import Scores
from kunlun_jax.scaling import record_lines
from kunlun_jax.scaling.records import (
    RECORDS_FILE,
    add_record,
    read_record,
    read_records,
    resample,
)
from kunlun_jax.scaling.study import planned_runs, study_config
from kunlun_jax.training.workdir import WorkdirError
from tests.scaling.planted import planted_record

RUNS = planned_runs(study_config({**smoke.get_config().to_dict(), "seeds": (0, 1)}))


def save(directory, runs):
    for run in runs:
        add_record(directory, planted_record(run))


def lines(directory):
    return (directory / RECORDS_FILE).read_text().splitlines(keepends=True)


def same(got, expected):
    assert got.content == expected.content
    assert got.resampled.keys() == expected.resampled.keys()
    for metric, draws in expected.resampled.items():
        assert got.resampled[metric].dtype == draws.dtype
        np.testing.assert_array_equal(got.resampled[metric], draws)


class TestFile:
    def test_every_run_is_read_as_it_was_written(self, tmp_path):
        save(tmp_path, RUNS)
        records = read_records(tmp_path)
        assert list(records) == [run.name for run in RUNS]
        for run in RUNS:
            same(records[run.name], planted_record(run))
        assert [path.name for path in tmp_path.iterdir()] == [RECORDS_FILE]

    def test_the_configuration_is_written_once(self, tmp_path):
        save(tmp_path, RUNS)
        common, first, *others = map(json.loads, lines(tmp_path))
        assert len(others) == len(RUNS) - 1
        assert common["config"] == planted_record(RUNS[0]).content["config"]
        assert "config" not in first
        assert "environment" not in first
        seed = next(x for x in others if x["name"] == "kunlun_seed1")
        assert seed["config"] == {"seed": 1, "data": {"seed": 1}}
        assert {line["of"] for line in (first, *others)} == {common["common"]}

    def test_a_setting_that_is_gone_takes_a_line_of_its_own(self, tmp_path):
        first, second = map(planted_record, RUNS[:2])
        del second.content["config"]["model"]["comp_skip"]
        for record in (first, second):
            add_record(tmp_path, record)
        assert sum('"common"' in line for line in lines(tmp_path)) == 2
        same(read_records(tmp_path)[RUNS[1].name], second)

    def test_true_is_not_one(self, tmp_path):
        first, second = map(planted_record, RUNS[:2])
        first.content["config"]["model"]["comp_skip"] = True
        second.content["config"] = {**first.content["config"]}
        second.content["config"]["model"] = {**first.content["config"]["model"], "comp_skip": 1}
        for record in (first, second):
            add_record(tmp_path, record)
        found = read_records(tmp_path)[RUNS[1].name].content["config"]["model"]["comp_skip"]
        assert type(found) is int

    @pytest.mark.parametrize("order", [1, -1])
    def test_the_lines_of_several_machines_join_in_any_order(self, tmp_path, order):
        for name, runs in (("a", RUNS[:4]), ("b", RUNS[3:])):  # both have carried out RUNS[3]
            save(tmp_path / name, runs)
        joined = [*lines(tmp_path / "a"), *lines(tmp_path / "b")][::order]
        (tmp_path / RECORDS_FILE).write_text("".join(joined))
        records = read_records(tmp_path)
        for run in RUNS:
            same(records[run.name], planted_record(run))

    def test_several_processes_lose_nothing(self, tmp_path):
        threads = [threading.Thread(target=save, args=(tmp_path, RUNS[i::4])) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(read_records(tmp_path)) == {run.name for run in RUNS}

    def test_what_cannot_be_written_leaves_the_file_as_it_was(self, tmp_path, monkeypatch):
        save(tmp_path, RUNS[:2])
        before = lines(tmp_path)

        def fail(*_, **__):
            raise OSError("no space left")

        monkeypatch.setattr(record_lines.np, "savez_compressed", fail)
        with pytest.raises(OSError, match="no space"):
            save(tmp_path, RUNS[2:3])
        assert lines(tmp_path) == before

    def test_none(self, tmp_path):
        assert read_records(tmp_path / "nowhere") == {}


def damage_text(line):
    return line[: len(line) // 2] + "\n"


def damage_archive(line):
    values = json.loads(line)
    middle = len(values["resampled"]) // 2
    values["resampled"] = values["resampled"][:middle] + "AAAAAAAA" + values["resampled"][middle:]
    return json.dumps(values) + "\n"


def without(key):
    def damage(line):
        values = json.loads(line)
        del values[key]
        return json.dumps(values) + "\n"

    return damage


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            damage_text,
            damage_archive,
            without("name"),
            without("of"),
            without("resampled"),
            lambda line: "<<<<<<< HEAD\n" + line,
            lambda line: "[]\n",
            lambda line: '"common"\n',
            lambda line: "[" * 100_000 + "\n",
            lambda line: "\udcff\n",
        ],
    )
    def test_of_a_run(self, tmp_path, damage):
        save(tmp_path, RUNS[:4])
        kept = lines(tmp_path)
        kept[2] = damage(kept[2])
        (tmp_path / RECORDS_FILE).write_text("".join(kept), errors="surrogateescape")
        for use in (read_records, lambda path: save(path, RUNS[4:5])):
            with pytest.raises(WorkdirError, match=r"runs\.jsonl, line 3: expected the rec") as got:
                use(tmp_path)
            assert "\n" not in str(got.value)
            assert len(str(got.value)) - len(str(tmp_path)) < 200

    def test_of_common_values(self, tmp_path):
        save(tmp_path, RUNS[:2])
        kept = lines(tmp_path)
        kept[0] = kept[0].replace('"num_cpus": 2', '"num_cpus": 3')
        (tmp_path / RECORDS_FILE).write_text("".join(kept))
        with pytest.raises(WorkdirError, match="line 1: expected the record"):
            read_records(tmp_path)

    def test_common_values_that_are_not_there(self, tmp_path):
        save(tmp_path, RUNS[:2])
        (tmp_path / RECORDS_FILE).write_text("".join(lines(tmp_path)[1:]))
        with pytest.raises(WorkdirError, match="line 1: expected common values"):
            read_records(tmp_path)

    def test_two_records_of_a_run(self, tmp_path):
        save(tmp_path, RUNS[:2])
        record = planted_record(RUNS[0])
        record.content["minutes"] += 1
        with pytest.raises(
            WorkdirError, match=r"line 4: expected one record of kunlun_seed0, .* 2"
        ):
            add_record(tmp_path, record)
        assert len(lines(tmp_path)) == 3

    def test_a_last_line_without_an_end_is_not_joined_to_the_next(self, tmp_path):
        save(tmp_path, RUNS[:2])
        path = tmp_path / RECORDS_FILE
        path.write_text(path.read_text().rstrip("\n"))
        save(tmp_path, RUNS[2:3])
        assert len(read_records(tmp_path)) == 3


class TestConfig:
    def test_another_one_is_refused(self, tmp_path):
        save(tmp_path, RUNS[:1])
        with pytest.raises(WorkdirError, match=r"kunlun_seed0: is .* config\.model\.name"):
            read_record(tmp_path, RUNS[0].name, RUNS[1].config)

    def test_settings_that_came_later_do_not_make_it_void(self, tmp_path):
        run, record = RUNS[0], planted_record(RUNS[0])
        del record.content["config"]["model"]["comp_skip"]
        record.content["config"]["model"]["gone"] = 3
        add_record(tmp_path, record)
        assert read_record(tmp_path, run.name, run.config) is not None

    def test_settings_of_an_earlier_version_are_compared_as_those_of_today(self, tmp_path):
        run, record = RUNS[0], planted_record(RUNS[0])
        model = record.content["config"]["model"]
        model["gdpa"]["activation"] = "gelu_tanh"
        model["wukong"]["merge"] = "concat"
        add_record(tmp_path, record)
        assert read_record(tmp_path, run.name, run.config) is not None
        gdpa = dataclasses.replace(run.config.model.gdpa, activation=("relu",))
        other = dataclasses.replace(run.config.model, gdpa=gdpa)
        with pytest.raises(WorkdirError, match=r"activation\[0\] = 'gelu_tanh', got 'relu'"):
            read_record(tmp_path, run.name, dataclasses.replace(run.config, model=other))

    def test_what_changes_no_number_may_differ(self, tmp_path):
        run, record = RUNS[0], planted_record(RUNS[0])
        record.content["config"]["data"]["num_threads"] += 1
        record.content["config"]["data"]["directory"] = "elsewhere"
        add_record(tmp_path, record)
        assert read_record(tmp_path, run.name, run.config) is not None


def test_resamples_are_means_over_tasks_and_name_no_user():
    generator = np.random.default_rng(0)
    scores = Scores(
        generator.integers(0, 9, 400),
        generator.normal(size=(400, 2)).astype(np.float32),
        generator.integers(0, 2, (400, 2)).astype(np.float32),
        np.ones(400, np.float32),
    )
    found = resample(scores, [0.5, 0.4], num_resamples=20)
    parts = [
        resample(Scores(scores.user_ids, x, y, scores.weights), [rate], num_resamples=20)
        for x, y, rate in zip(
            np.split(scores.logits, 2, 1), np.split(scores.labels, 2, 1), [0.5, 0.4],
            strict=True,
        )
    ]  # fmt: skip
    for metric, draws in found.items():
        assert draws.shape == (21,)
        expected = (parts[0][metric] + parts[1][metric]) / 2
        np.testing.assert_allclose(draws, expected, rtol=1e-6)
