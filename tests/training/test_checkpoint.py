import collections
import contextlib
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.config import in_current_form
from kunlun_jax.data import BatchSource, make_train_iterator
from kunlun_jax.training.checkpoint import CheckpointError, Checkpoints, DamagedCheckpointError
from tests.data import toy
from tests.training import linear
from tests.training.runs import assert_equal_states

# With what models did not always have, so that nothing is filled in when it is read back.
MODEL = in_current_form({"model": {"dim": 8, "streams": ["click"]}})
IDENTITY = {"config": MODEL, "pipeline": "abc"}

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
        chex.assert_trees_all_equal(next(data), next_batch)

    def test_without_an_iterator_gives_the_state(self, saved, open_checkpoints):
        directory, state, _ = saved
        restored = open_checkpoints(directory).restore(3, linear.initial_state())
        assert_equal_states(restored, state)

    def test_refuses_another_model(self, saved, source, open_checkpoints):
        directory, _, _ = saved
        model = {**IDENTITY["config"]["model"], "dim": 16}
        other = {**IDENTITY, "config": {"model": model}}
        checkpoints = open_checkpoints(directory, identity=other)
        with pytest.raises(CheckpointError, match=r"/3: .*config\.model\.dim: expected 16, got 8"):
            checkpoints.restore(3, linear.initial_state(), make_train_iterator(source))

    def test_knows_the_settings_of_an_earlier_version(self, source, open_checkpoints):
        def identity(activation, **wukong):
            model = {"gdpa": {"activation": activation}, "wukong": {"partition": "full", **wukong}}
            return {**IDENTITY, "config": {"model": model}}

        writer = open_checkpoints(identity=identity("gelu,relu", merge="sum"))
        writer.save(linear.initial_state(), make_train_iterator(source))
        writer.wait()
        reader = open_checkpoints(writer.directory, identity=identity(("gelu", "relu")))
        reader.restore(0, linear.initial_state(), make_train_iterator(source))
        reader = open_checkpoints(writer.directory, identity=identity(("gelu", "silu")))
        with pytest.raises(CheckpointError, match=r"activation\[1\]: expected 'silu', got 'relu'"):
            reader.restore(0, linear.initial_state(), make_train_iterator(source))

    def test_refuses_another_pipeline(self, saved, source, open_checkpoints):
        directory, _, _ = saved
        checkpoints = open_checkpoints(directory, identity={**IDENTITY, "pipeline": "abd"})
        with pytest.raises(CheckpointError, match="pipeline: expected 'abd', got 'abc'"):
            checkpoints.restore(3, linear.initial_state(), make_train_iterator(source))

    @pytest.mark.parametrize("part", ["manifest", "state"])
    def test_refuses_an_incomplete_checkpoint(self, saved, source, open_checkpoints, part):
        directory, _, _ = saved
        shutil.rmtree(directory / "3" / part)
        checkpoints = open_checkpoints(directory)
        with pytest.raises(DamagedCheckpointError, match=f'{directory}/3: .*"{part}"'):
            checkpoints.restore(3, linear.initial_state(), make_train_iterator(source))

    def test_refuses_a_truncated_checkpoint(self, saved, open_checkpoints):
        directory, _, _ = saved
        metadata = directory / "3" / "state" / "_METADATA"
        metadata.write_bytes(metadata.read_bytes()[:100])
        with pytest.raises(DamagedCheckpointError, match=f"{directory}/3: "):
            open_checkpoints(directory).restore(3, linear.initial_state())

    @pytest.mark.parametrize(
        ("leaf", "message"),
        [
            (jnp.zeros(13), r"expected 'float32\[13\]', got 'float32\[14\]'"),
            (jnp.zeros(14, jnp.bfloat16), r"expected 'bfloat16\[14\]', got 'float32\[14\]'"),
        ],
    )
    def test_refuses_another_shape_or_dtype(self, saved, open_checkpoints, leaf, message):
        directory, _, _ = saved
        other = linear.initial_state().replace(accumulators={"item": leaf})
        with pytest.raises(
            CheckpointError, match=f"/3: .* another state: accumulators/item: {message}"
        ):
            open_checkpoints(directory).restore(3, other)

    def test_refuses_a_leaf_of_other_bits(self, saved, source, open_checkpoints):
        # A checkpoint that is sound as far as the storage library can tell.
        directory, state, _ = saved
        other = directory.parent / "other"
        with contextlib.closing(Checkpoints(other, keep=2, identity=IDENTITY)) as checkpoints:
            changed = {name: value + 1e-6 for name, value in state.params.items()}
            checkpoints.save(state.replace(params=changed), make_train_iterator(source))
        shutil.rmtree(directory / "3" / "state")
        shutil.copytree(other / "3" / "state", directory / "3" / "state")
        message = f"{directory}/3: params/bias is damaged: expected checksum [0-9a-f]{{16}}, got"
        with pytest.raises(DamagedCheckpointError, match=message):
            open_checkpoints(directory).restore(3, linear.initial_state())


class TestRestoreNewest:
    @pytest.fixture
    def three_steps(self, source, open_checkpoints):
        checkpoints, data = open_checkpoints(keep=3), make_train_iterator(source)
        for step in (1, 2, 3):
            next(data)
            entropy = {"normalized_entropy": 0.9 - 0.1 * step}
            checkpoints.save(at_step(step), data, metrics=entropy)
        checkpoints.wait()
        return checkpoints.directory

    def damage(self, directory, *steps):
        for step in steps:
            (directory / str(step) / "state" / "_METADATA").write_bytes(b"")

    def restore(self, checkpoints, source):
        data = make_train_iterator(source)
        state, damaged = checkpoints.restore_newest(linear.initial_state(), data)
        return None if state is None else int(state.step), data.get_state(), damaged

    def test_none_where_there_is_none(self, source, open_checkpoints):
        step, position, damaged = self.restore(open_checkpoints(), source)
        assert (step, position, damaged) == (None, {"next_index": 0}, [])

    def test_the_newest(self, three_steps, source, open_checkpoints):
        step, position, damaged = self.restore(open_checkpoints(three_steps), source)
        assert (step, position, damaged) == (3, {"next_index": 3}, [])

    def test_falls_back_and_says_so(self, three_steps, source, open_checkpoints):
        self.damage(three_steps, 2, 3)
        checkpoints = open_checkpoints(three_steps, keep=3)
        step, position, damaged = self.restore(checkpoints, source)
        assert (step, position) == (1, {"next_index": 1})
        assert [line.split(": ")[0] for line in damaged] == [f"{three_steps}/3", f"{three_steps}/2"]
        aside = three_steps.with_name("damaged_checkpoints")
        assert damaged[0].endswith(f"; set aside as {aside}/3")
        assert {path.name for path in aside.iterdir()} == {"2", "3"}
        assert (checkpoints.latest_step, checkpoints.best_step) == (1, 1)
        checkpoints.save(at_step(2), make_train_iterator(source))  # the step is free again
        checkpoints.wait()
        assert checkpoints.latest_step == 2

    def test_leaves_everything_where_none_is_good(self, three_steps, source, open_checkpoints):
        self.damage(three_steps, 1, 2, 3)
        checkpoints = open_checkpoints(three_steps)
        for _ in range(2):  # the next start says so again, and does not begin anew
            message = f"expected a good checkpoint, got 3 damaged; the newest: {three_steps}/3"
            with pytest.raises(DamagedCheckpointError, match=message):
                self.restore(checkpoints, source)

    def test_does_not_fall_back_from_another_run(self, three_steps, source, open_checkpoints):
        checkpoints = open_checkpoints(three_steps, identity={**IDENTITY, "pipeline": "abd"})
        with pytest.raises(CheckpointError, match="another run: pipeline"):
            self.restore(checkpoints, source)
        assert checkpoints.latest_step == 3


class TestRoom:
    def test_refuses_a_disk_that_is_too_small(self, open_checkpoints, monkeypatch):
        checkpoints, state = open_checkpoints(keep=2), linear.initial_state()
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        usage = collections.namedtuple("usage", "free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(5 * size))
        checkpoints.require_room(state)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(5 * size - 1))
        message = r"expected room for 5 checkpoints of .* MB, got .* MB free"
        with pytest.raises(CheckpointError, match=message):
            checkpoints.require_room(state)


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

    def test_what_is_not_a_number_is_not_the_best(self, source, open_checkpoints):
        checkpoints, data = open_checkpoints(keep=1), make_train_iterator(source)
        checkpoints.save(at_step(1), data, metrics={"normalized_entropy": float("nan")})
        checkpoints.wait()
        assert (checkpoints.latest_step, checkpoints.best_step) == (1, None)
        checkpoints.save(at_step(2), data, metrics={"normalized_entropy": 1.5})
        checkpoints.wait()
        assert checkpoints.best_step == 2
        assert open_checkpoints(checkpoints.directory).best_step == 2

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
        # Not the last line: the storage library's threads complain after it.
        errors = [line for line in result.stderr.splitlines() if "CheckpointError: " in line]
        assert any("cannot be saved" in line and "File too large" in line for line in errors)
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
