import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.data import BatchSource, make_train_iterator
from kunlun_jax.training.checkpoint import CheckpointError, Checkpoints, first_difference
from tests.data import toy
from tests.training import linear
from tests.training.runs import assert_equal_states

IDENTITY = {"config": {"model": {"dim": 8, "streams": ["click"]}}, "pipeline": "abc"}

SAVE_ON_A_FULL_DISK = """
import pathlib, resource, sys
from kunlun_jax.data import BatchSource, Dataset, make_train_iterator
from kunlun_jax.training.checkpoint import Checkpoints
from tests.training.test_checkpoint import IDENTITY, at_step

dataset, directory = (pathlib.Path(argument) for argument in sys.argv[1:])
source = BatchSource(Dataset.open(dataset), split="train", batch_size=16, max_lens={})
checkpoints = Checkpoints(directory, keep=2, identity=IDENTITY)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
checkpoints.save(at_step(4), make_train_iterator(source))
checkpoints.close()
"""


@pytest.fixture(scope="module")
def source(dataset):
    return BatchSource(dataset, split="train", batch_size=16, max_lens=toy.MAX_LENS)


@pytest.fixture(scope="module")
def train_step():
    return jax.jit(linear.train_step, donate_argnums=0)


@pytest.fixture
def open_checkpoints(tmp_path):
    """Open checkpoints, in the same directory unless told otherwise; close them at the end."""
    opened = []

    def open_(directory=None, *, keep=2, identity=None):
        checkpoints = Checkpoints(
            directory or tmp_path / "checkpoints", keep=keep, identity=identity or IDENTITY
        )
        opened.append(checkpoints)
        return checkpoints

    yield open_
    for checkpoints in opened:
        checkpoints.close()


def at_step(step):
    state = linear.initial_state()
    return state.replace(step=jnp.asarray(step, jnp.int32))


@pytest.fixture
def saved(source, train_step, open_checkpoints):
    """Checkpoints with step 3 in them, and the state and the iterator's next batch there."""
    state, data = linear.initial_state(), make_train_iterator(source)
    for _ in range(3):
        state = train_step(state, next(data))
    checkpoints = open_checkpoints()
    checkpoints.save(state, data, metrics={"normalized_entropy": 0.9})
    checkpoints.wait()
    return checkpoints.directory, state, next(data)


class TestRestore:
    def test_gives_the_state_and_the_place_in_the_data(self, saved, source, open_checkpoints):
        directory, state, next_batch = saved
        data = make_train_iterator(source)
        target = jax.eval_shape(linear.initial_state)
        restored = open_checkpoints(directory).restore(3, target, data)
        assert_equal_states(restored, state)
        jax.tree.map(np.testing.assert_array_equal, next(data), next_batch)

    def test_without_an_iterator_gives_the_state(self, saved, open_checkpoints):
        directory, state, _ = saved
        restored = open_checkpoints(directory).restore(3, linear.initial_state())
        assert_equal_states(restored, state)

    def test_refuses_another_model(self, saved, source, open_checkpoints):
        directory, _, _ = saved
        other = {**IDENTITY, "config": {"model": {"dim": 16, "streams": ["click"]}}}
        checkpoints = open_checkpoints(directory, identity=other)
        with pytest.raises(CheckpointError, match=r"/3: .*config\.model\.dim: expected 16, got 8"):
            checkpoints.restore(3, linear.initial_state(), make_train_iterator(source))

    def test_refuses_another_pipeline(self, saved, source, open_checkpoints):
        directory, _, _ = saved
        checkpoints = open_checkpoints(directory, identity={**IDENTITY, "pipeline": "abd"})
        with pytest.raises(CheckpointError, match="pipeline: expected 'abd', got 'abc'"):
            checkpoints.restore(3, linear.initial_state(), make_train_iterator(source))

    @pytest.mark.parametrize("part", ["identity", "state", "data"])
    def test_refuses_a_checkpoint_of_something_else(self, saved, source, open_checkpoints, part):
        directory, _, _ = saved
        shutil.rmtree(directory / "3" / part)
        checkpoints = open_checkpoints(directory)
        with pytest.raises(CheckpointError, match=f'{directory}: step 3 .*"{part}"'):
            checkpoints.restore(3, linear.initial_state(), make_train_iterator(source))

    def test_refuses_a_truncated_checkpoint(self, saved, open_checkpoints):
        directory, _, _ = saved
        metadata = directory / "3" / "state" / "_METADATA"
        metadata.write_bytes(metadata.read_bytes()[:100])
        with pytest.raises(CheckpointError, match=f"{directory}: step 3 cannot be restored"):
            open_checkpoints(directory).restore(3, linear.initial_state())


class TestSave:
    def test_the_steps_that_follow_do_not_change_it(self, source, train_step, open_checkpoints):
        # The save runs on in a thread while the next steps reuse the donated memory.
        checkpoints, data = open_checkpoints(keep=10), make_train_iterator(source)
        state = linear.initial_state().replace(tables={"item": jnp.zeros((500_000, 2))})
        expected = {}
        for _ in range(4):
            state = train_step(state, next(data))
            checkpoints.save(state, data)
            expected[int(state.step)] = jax.tree.map(np.array, state)
            for _ in range(3):
                state = train_step(state, next(data))
        checkpoints.wait()
        for step, wanted in expected.items():
            assert_equal_states(checkpoints.restore(step, state), wanted)

    def test_keeps_the_latest_and_the_best(self, source, open_checkpoints):
        checkpoints, data = open_checkpoints(keep=1), make_train_iterator(source)
        assert (checkpoints.latest_step, checkpoints.best_step) == (None, None)
        entropies = {1: 0.9, 2: None, 3: 0.7, 4: None, 5: 0.8, 6: None}
        for step, entropy in entropies.items():
            metrics = None if entropy is None else {"normalized_entropy": entropy}
            checkpoints.save(at_step(step), data, metrics=metrics)
        checkpoints.wait()
        assert (checkpoints.latest_step, checkpoints.best_step) == (6, 3)
        again = open_checkpoints(checkpoints.directory)
        assert (again.latest_step, again.best_step) == (6, 3)
        assert {p.name for p in checkpoints.directory.iterdir() if p.name.isdigit()} == {"3", "6"}

    def test_a_step_that_is_saved_is_left_alone(self, source, open_checkpoints):
        checkpoints, data = open_checkpoints(), make_train_iterator(source)
        checkpoints.save(at_step(1), data, metrics={"normalized_entropy": 0.9})
        checkpoints.wait()
        checkpoints.save(at_step(1), data)
        assert checkpoints.best_step == 1

    @pytest.mark.slow  # a process of its own: the writes that were given up disturb what follows
    def test_a_save_that_failed_raises(self, saved, dataset, open_checkpoints):
        directory, state, _ = saved
        arguments = [sys.executable, "-c", SAVE_ON_A_FULL_DISK, dataset.directory, directory]
        result = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert result.returncode != 0
        assert "File too large" in result.stderr.splitlines()[-1]
        again = open_checkpoints(directory)
        assert again.latest_step == 3  # and it is still good
        assert_equal_states(again.restore(3, linear.initial_state()), state)

    def test_what_a_killed_save_left_does_not_count(self, saved, source, open_checkpoints):
        directory, _, _ = saved
        left = directory / "4.orbax-checkpoint-tmp"
        shutil.copytree(directory / "3", left)
        checkpoints = open_checkpoints(directory)
        assert checkpoints.latest_step == 3
        checkpoints.save(at_step(4), make_train_iterator(source))
        checkpoints.wait()
        assert checkpoints.latest_step == 4
        assert not left.exists()


class TestFirstDifference:
    def test_names_the_place(self):
        a = {"x": {"y": 1, "z": [1, 2]}, "w": "v"}
        assert first_difference(a, {"x": {"y": 1, "z": [1, 2]}, "w": "v"}) is None
        assert first_difference(a, {"x": {"y": 1, "z": [1, 3]}, "w": "v"}) == (
            "x.z",
            [1, 2],
            [1, 3],
        )
        assert first_difference(a, {"x": {"y": 1}, "w": "v"}) == ("x.z", [1, 2], "nothing")
        assert first_difference({}, {"x": 1}) == ("x", "nothing", 1)
