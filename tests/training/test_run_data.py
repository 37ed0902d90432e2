"""A run is bound to what its data set contains, wherever that lies, and is read without writing."""

import json
import os
import pathlib
import shutil

import pytest

from kunlun_jax.compare import compare_runs
from kunlun_jax.data import DatasetError
from kunlun_jax.data.build import build_dataset
from kunlun_jax.data.sources import SOURCES
from kunlun_jax.training.finished_run import keep_beside, open_finished
from kunlun_jax.training.results import predict
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_data import DATA_FILE, find_dataset
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import WorkdirError, open_workdir
from tests.training import tiny
from tests.training.runs import assert_equal_states, records

MODEL = {"model.name": "din"}


def resume(workdir, directory, **changes):
    """Start a finished run again; returns its last state."""
    config = tiny.experiment(directory, **MODEL, **changes)
    with open_workdir(workdir, config), open_run(config, workdir) as run:
        state, complete = run_loop(run, run.resume_or_initialize(), run.train_step())
        assert complete
        return state


@pytest.fixture
def copied(finished_runs, tmp_path):
    """A copy of a finished run and of its data set, as (workdir, data set)."""
    shutil.copytree(finished_runs[0], tmp_path / "home" / "runs" / "a")
    shutil.copytree(finished_runs[0].parent / "data", tmp_path / "home" / "data")
    return tmp_path / "home" / "runs" / "a", tmp_path / "home" / "data"


def other_content(directory):
    options = tiny.get_config().data.options.to_dict() | {"seed": 1}
    build_dataset("synthetic", SOURCES["synthetic"].make_options(options), directory)
    return directory


def everything(directory):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


class TestResume:
    def test_a_data_set_that_moved(self, copied, tmp_path, monkeypatch):
        workdir, data = copied
        before = resume(workdir, data)
        data.rename(tmp_path / "moved")
        monkeypatch.chdir(tmp_path)
        for directory in (tmp_path / "moved", "moved", "./moved", "../" + tmp_path.name + "/moved"):
            assert_equal_states(resume(workdir, directory), before)
            assert json.loads((workdir / "config.json").read_text())["data"]["directory"] == str(
                directory
            )
        assert json.loads((workdir / DATA_FILE).read_text())["directory"].endswith("moved")

    def test_by_another_name_of_the_source(self, copied):
        workdir, data = copied
        resume(workdir, data, **{"data.source": "built", "data.options": {}})

    def test_refuses_another_content_and_forgets_nothing(self, copied, tmp_path):
        workdir, data = copied
        resume(workdir, data)
        kept = {name: (workdir / name).read_text() for name in ("config.json", DATA_FILE)}
        other = other_content(tmp_path / "other")
        with pytest.raises(WorkdirError, match=r"holds a run on data set synth\w* \(\w{12}\), got"):
            resume(workdir, other, **{"data.options.seed": 1})
        assert kept == {name: (workdir / name).read_text() for name in kept}
        resume(workdir, data)

    def test_settings_that_change_no_number(self, copied):
        workdir, data = copied
        before, lines = resume(workdir, data), records(workdir)
        free = {"log_every": 7, "checkpoint_every": 3, "keep_checkpoints": 4, "stop_after_skips": 2}
        after = resume(workdir, data, **{f"training.{key}": value for key, value in free.items()})
        assert_equal_states(after, before)
        assert [x for x in lines if "best/step" not in x] == records(workdir)


class TestOpenFinished:
    def test_from_another_directory(self, copied, tmp_path, monkeypatch):
        """Its data set was told as `data`, from where the run was started."""
        workdir, data = copied
        monkeypatch.chdir(data.parent)
        resume(workdir, "data")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with open_finished("../home/runs/a") as (run, _):
            assert run.data.dataset.directory.resolve() == data

    def test_after_all_has_moved(self, copied, tmp_path, monkeypatch):
        workdir, data = copied
        monkeypatch.chdir(data.parent)
        resume(workdir, "data")
        data.parent.rename(tmp_path / "new_home")
        monkeypatch.chdir(tmp_path)
        with open_finished("new_home/runs/a") as (run, _):
            assert run.data.dataset.directory.resolve() == tmp_path / "new_home" / "data"

    def test_writes_nothing_and_asks_for_no_lock(self, copied):
        workdir, data = copied
        config = tiny.experiment(data, **MODEL)
        with open_workdir(workdir, config):  # somebody trains in it
            before = everything(workdir.parent.parent)
            with open_finished(workdir, dataset=str(data)) as (run, state):
                predict(run, state, "test")
            assert everything(workdir.parent.parent) == before

    def test_builds_no_data_set(self, copied):
        workdir, data = copied
        resume(workdir, data)
        shutil.rmtree(data)
        message = r"no data set synth\w* \(\w{12}\) here, .* --dataset=DIRECTORY says where it is"
        with pytest.raises(DatasetError, match=message), open_finished(workdir):
            pass
        assert not data.exists()

    def test_takes_the_data_set_that_is_told(self, copied, tmp_path):
        workdir, data = copied
        resume(workdir, data)
        data.rename(tmp_path / "moved")
        with open_finished(workdir, dataset=str(tmp_path / "moved")) as (run, _):
            assert run.data.dataset.directory == tmp_path / "moved"
        both = compare_runs(*[str(workdir)] * 2, dataset=str(tmp_path / "moved"), num_resamples=5)
        assert both["difference"]["auc_roc"]["value"] == 0.0

    def test_refuses_one_of_another_content(self, copied, tmp_path):
        workdir, data = copied
        resume(workdir, data)
        other = other_content(tmp_path / "other")
        with pytest.raises(DatasetError, match=f"{other}: expected data set synth.*, got"):
            find_dataset(workdir, str(data), str(other))
        shutil.rmtree(data)
        other.rename(data)  # in its very place
        with pytest.raises(DatasetError, match="no data set synth"):
            find_dataset(workdir, str(data))

    def test_a_damaged_best_checkpoint_stays_where_it_is(self, copied):
        workdir, _ = copied
        best = int(records(workdir)[-1]["best/step"])
        shutil.rmtree(workdir / "checkpoints" / str(best) / "state")
        before = everything(workdir)
        with (
            pytest.raises(ValueError, match=r"best checkpoint is lost: .*train\.py sets it aside"),
            open_finished(workdir),
        ):
            pass
        assert everything(workdir) == before


@pytest.mark.parametrize("text", ["{", "[1]", '{"name": "a", "identity": 1, "directory": "b"}'])
def test_refuses_a_damaged_note(tmp_path, text):
    (tmp_path / DATA_FILE).write_text(text)
    with pytest.raises(WorkdirError, match=r"data\.json"):
        find_dataset(tmp_path, "data")


def test_what_cannot_be_kept_is_said(tmp_path, capsys):
    assert keep_beside(tmp_path / "a.json", "1", flag="--out=FILE")
    assert (tmp_path / "a.json").read_text() == "1"
    nowhere = pathlib.Path(os.devnull) / "a.json"
    assert not keep_beside(nowhere, "1", flag="--out=FILE")
    assert "not written: Not a directory; --out=FILE names another place" in capsys.readouterr().err
