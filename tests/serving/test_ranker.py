"""A ranker scores as evaluation does, from the working directory alone, and compiles nothing."""

import dataclasses
import doctest
import json
import shutil

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import kunlun_jax
from kunlun_jax import front_door
from kunlun_jax.data import Dataset, DatasetError, Events, Request, RequestError
from kunlun_jax.files import json_sha256
from kunlun_jax.metrics.scores import probabilities
from kunlun_jax.serving.programs import chunks
from kunlun_jax.serving.trained import open_trained
from kunlun_jax.training.checkpoint import CheckpointError
from kunlun_jax.training.finished_run import open_finished
from kunlun_jax.training.results import predict
from kunlun_jax.training.workdir import WorkdirError, open_workdir
from tests.data.reading.test_requests import request_of
from tests.training import tiny
from tests.training.test_run_data import everything

BUCKETS = (1, 4, 16)


@pytest.fixture(scope="module")
def run(finished_runs):
    return finished_runs[0]


@pytest.fixture(scope="module")
def dataset(run):
    return Dataset.open(run.parent / "data")


@pytest.fixture(scope="module")
def ranker(run):
    return kunlun_jax.load(run, buckets=BUCKETS, cached_users=2)


def test_the_example_of_the_front_door(run, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "smoke").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(front_door, raise_on_error=True).attempted


def user_of(request, schema):
    """Return what of a request is not the candidate's."""
    rest = {name: x for name, x in request.sparse.items() if name not in schema.candidate}
    return dataclasses.replace(request, sparse=rest)


def pairs(user, candidates):
    """Return the request of every candidate, each with a history of its own."""
    count = len(next(iter(candidates.values())))
    return [
        dataclasses.replace(
            user,
            sparse={**user.sparse, **{name: column[i] for name, column in candidates.items()}},
            events=dict(user.events),
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def users(dataset):
    return [user_of(request_of(dataset, "test", row), dataset.schema) for row in range(12)]


@pytest.fixture(scope="module")
def candidates():
    rng = np.random.default_rng(0)
    return {"item": rng.integers(-1, 53, 100), "category": rng.integers(0, 12, 100).tolist()}


class TestScore:
    def test_equals_evaluation(self, ranker, users, candidates):
        for user in users:
            scores = ranker.score(user, candidates)
            assert scores.shape == (100, 1)
            np.testing.assert_allclose(
                scores, ranker.predict(pairs(user, candidates)), rtol=0, atol=1e-6
            )
        assert scores.std() > 1e-4

    def test_compiles_nothing_and_computes_the_user_once(self, ranker, users, candidates):
        ranker.score(users[0], {"item": [1], "category": [1]})
        compiled, encoded = [], []
        encode = ranker._programs.encode
        jax.monitoring.register_event_duration_secs_listener(
            listener := lambda name, *_, **__: compiled.append(name) if "compile" in name else None
        )
        ranker._programs.encode = lambda histories: encoded.append(1) or encode(histories)
        try:
            for user in (users[1], users[1], users[2], users[1]):
                for count in (1, 3, 4, 5, 17, 40, 100):
                    ranker.score(user, {name: x[:count] for name, x in candidates.items()})
            assert (len(encoded), compiled) == (2, [])
            ranker.score(users[3], candidates)  # the third of two that are kept
            ranker.score(users[2], candidates)
            assert len(encoded) == 4
            jax.jit(lambda x: x + 1.5)(1.0)
            assert compiled, "the listener hears compilations"
        finally:
            jax.monitoring.unregister_event_duration_listener(listener)
            ranker._programs.encode = encode

    def test_events_that_their_owner_changes_in_place_are_read_again(
        self, ranker, users, candidates
    ):
        stream, given = max(users[0].events.items(), key=lambda item: len(item[1].times))
        assert len(given.times) > 2
        ids = {name: np.array(column) for name, column in given.ids.items()}
        owned = dataclasses.replace(given, ids=ids)
        user = dataclasses.replace(users[0], events=users[0].events | {stream: owned})
        before = ranker.score(user, candidates)
        for column in ids.values():
            column[:] = column[::-1].copy()
        after = ranker.score(user, candidates)
        np.testing.assert_allclose(
            after, ranker.predict(pairs(user, candidates)), rtol=0, atol=1e-6
        )
        assert (before != after).any()

    def test_what_is_no_id_is_refused_beside_an_equal_one_that_was_kept(
        self, ranker, users, candidates
    ):
        stream, given = max(users[0].events.items(), key=lambda item: len(item[1].times))
        name = next(iter(given.ids))
        for value in (1, True, 1.0):
            ids = dict(given.ids) | {name: [value] * len(given.times)}
            events = users[0].events | {stream: dataclasses.replace(given, ids=ids)}
            user = dataclasses.replace(users[0], events=events)
            if type(value) is int:
                ranker.score(user, candidates)
            else:
                with pytest.raises(RequestError, match=f"{stream}.*expected integers"):
                    ranker.score(user, candidates)

    def test_what_a_request_may_lack_or_overdo(self, ranker, users):
        """All of what `requests.py` documents reaches the model in one way."""
        rich = users[5]
        late = dataclasses.replace(rich, time=rich.time - 40 * 86_400)
        for user in (
            Request(rich.time),
            Request(rich.time, dense={"context_value": np.nan}, sparse={"segment": 2**40}),
            Request(rich.time, events={"purchase": Events()}),
            late,  # events of its future
        ):
            given = {"item": [3, None, 2**70, -1], "category": [1, [], 4, 2]}
            expected = ranker.predict(pairs(user, given))
            np.testing.assert_allclose(ranker.score(user, given), expected, rtol=0, atol=1e-6)
            assert np.isfinite(expected).all()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "candidates: expected columns of one length >= 1, got lengths {}"),
            ({"item": []}, "columns of one length >= 1, got lengths {'item': 0}"),
            ({"item": [1], "category": [1, 2]}, "got lengths {'item': 1, 'category': 2}"),
            ({"itm": [1]}, r"candidates: expected names of \['context_value', .*got 'itm'"),
            ({"item": [1], "segment": [1]}, "that the user does not have too, got 'segment'"),
            ({"item": [1, "x"]}, r"request 1: sparse 'item': expected integers, got \['x'\]"),
            ({"item": 5}, "candidates: 'item': expected a column, got 5"),
        ],
    )
    def test_refuses(self, ranker, users, given, message):
        with pytest.raises(RequestError, match=message):
            ranker.score(users[0], given)


@hypothesis.given(
    st.integers(1, 3000), st.sets(st.integers(1, 500), min_size=1, max_size=5).map(sorted)
)
def test_chunks_hold_all_candidates(count, buckets):
    found = chunks(count, buckets)
    assert set(found) <= set(buckets)
    assert sum(found) - found[-1] < count <= sum(found)
    exact = sum(found[:-1])
    smallest_that_holds = min((b for b in buckets if b >= count - exact), default=None)
    assert found[-1] in (smallest_that_holds, count - exact)


class TestPredict:
    def test_equals_the_evaluation_of_the_run(self, run, ranker, dataset):
        """Bit by bit: in batches of the same size, in the same order."""
        requests = [request_of(dataset, "test", row) for row in range(len(dataset.splits["test"]))]
        with open_finished(run) as (opened, state):
            assert int(state.step) == ranker.step
            expected = probabilities(predict(opened, state, "test").logits)
        assert len(requests) > 2 * opened.config.data.eval_batch_size
        np.testing.assert_array_equal(ranker.predict(requests), expected)

    def test_of_nothing(self, ranker):
        assert ranker.predict([]).shape == (0, 1)


class TestLoad:
    @pytest.fixture
    def copied(self, run, tmp_path):
        """The run alone, without its data set."""
        return shutil.copytree(run, tmp_path / "elsewhere" / "run")

    def test_from_the_working_directory_alone(self, copied, ranker, users, candidates, monkeypatch):
        monkeypatch.chdir(copied.parent)
        config = tiny.experiment(copied.parent / "nowhere", **{"model.name": "din"})
        with open_workdir(copied, config):  # somebody trains in it
            before = everything(copied)
            loaded = kunlun_jax.load("run", buckets=[16])
            found = loaded.score(users[0], candidates)
            assert everything(copied) == before
        np.testing.assert_allclose(found, ranker.score(users[0], candidates), rtol=0, atol=1e-6)
        assert loaded.tasks == ("click",)

    def test_of_an_earlier_version(self, copied, run):
        """It has no metadata of its data set, which then has to be there, or be told."""
        shutil.rmtree(copied / "dataset")
        note = json.loads((copied / "data.json").read_text())
        (copied / "data.json").write_text(json.dumps({**note, "directory": "/nowhere"}))
        values = json.loads((copied / "config.json").read_text())
        values["data"]["directory"] = "nowhere"
        (copied / "config.json").write_text(json.dumps(values))
        message = r"no dataset/dataset\.json, which an earlier version .*--dataset=DIRECTORY says"
        with pytest.raises(DatasetError, match=message):
            kunlun_jax.load(copied)
        kunlun_jax.load(copied, dataset=str(run.parent / "data"), buckets=[1])

    def test_refuses_what_is_no_run(self, tmp_path):
        with pytest.raises(WorkdirError, match="expected the working directory of a run"):
            kunlun_jax.load(tmp_path)

    def test_refuses_a_run_without_a_checkpoint(self, copied):
        for path in (copied / "checkpoints").iterdir():
            shutil.rmtree(path)
        with pytest.raises(CheckpointError, match="expected a checkpoint with a validation NE"):
            kunlun_jax.load(copied)

    @pytest.mark.parametrize("leaf", ["params/head/mlp/out/kernel", "tables/item"])
    def test_compares_what_it_reads_with_its_checksums(self, copied, leaf):
        """A checksum that is not the array's stands for an array that is not what was saved."""
        step = open_trained(copied).step
        file = copied / "checkpoints" / str(step) / "manifest" / "metadata"
        manifest = json.loads(file.read_text())
        del manifest["sha256"]
        manifest["leaves"][leaf]["checksum"] = "0" * 16
        file.write_text(json.dumps({**manifest, "sha256": json_sha256(manifest)}))
        with pytest.raises(CheckpointError, match=f"checkpoints/{step}: {leaf} is damaged"):
            open_trained(copied)

    @pytest.mark.parametrize("buckets", [(), (0, 4)])
    def test_refuses_buckets(self, run, buckets):
        with pytest.raises(ValueError, match="buckets: expected numbers of candidates >= 1"):
            kunlun_jax.load(run, buckets=buckets)
