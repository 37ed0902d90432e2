"""Checkpoints that are not what was saved, or not of this run."""

import random
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kunlun_jax.data import BatchSource, make_train_iterator
from kunlun_jax.data.build import build_dataset
from kunlun_jax.data.sources.registry import SOURCES
from kunlun_jax.training import run
from kunlun_jax.training.checkpoint import Checkpoints
from kunlun_jax.training.results import report_best
from tests.data import toy
from tests.faults import small_model
from tests.faults.harness import flip_bit, steps
from tests.training import linear, tiny
from tests.training.runs import assert_equal_states, records


def files(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def array_file(step):
    """Return the largest file of arrays of a step; beside `d` lie copies that nothing reads."""
    return max(files(step / "state" / "d"), key=lambda path: path.stat().st_size)


@pytest.fixture
def finished(uninterrupted, tmp_path):
    """A copy of the finished run; its newest checkpoint, of step 20, is what gets damaged."""
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    assert steps(workdir) == {"10", "16", "20"}
    return workdir


@pytest.mark.fault(
    "a flipped bit in a checkpoint's arrays",
    "found by the leaf's checksum; falls back to the newest good step, says so, keeps the damaged "
    "one aside, and ends bitwise as if nothing had been",
)
def test_flipped_bit(runs, uninterrupted, finished, observe):
    file = array_file(finished / "checkpoints" / "20")
    flip_bit(file, 4 * file.stat().st_size)
    outcome = runs.elsewhere(finished)
    assert outcome.code == 0, outcome.err
    (warning,) = (line for line in outcome.err.splitlines() if line.startswith("warning: "))
    assert "checkpoints/20: " in warning
    aside = finished / "damaged_checkpoints" / "20"
    assert warning.endswith(f"set aside as {aside}")
    assert array_file(aside).name == file.name
    runs.assert_same_run(finished, uninterrupted)
    observe(outcome, "warning: .../checkpoints/20: ...; set aside as .../damaged_checkpoints/20")


@pytest.mark.fault(
    "a checkpoint with a missing, an empty or a cut-off file", "falls back likewise, and says so"
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda step: shutil.rmtree(step / "state"),
        lambda step: (step / "manifest" / "metadata").unlink(),
        lambda step: (step / "manifest" / "metadata").write_bytes(b""),
        lambda step: array_file(step).write_bytes(array_file(step).read_bytes()[:-100]),
    ],
    ids=["state missing", "manifest missing", "manifest empty", "arrays cut off"],
)
def test_incomplete(runs, uninterrupted, finished, damage, observe):
    damage(finished / "checkpoints" / "20")
    outcome = runs.here(finished)
    assert outcome.code == 0
    assert f"warning: {finished}/checkpoints/20: " in outcome.err
    assert "resumed from step 16 of 20" in outcome.out
    runs.assert_same_run(finished, uninterrupted)
    observe(outcome, "warning: .../checkpoints/20: ...; set aside as .../damaged_checkpoints/20")


@pytest.mark.fault(
    "every checkpoint damaged", "refused, and nothing is touched: it never silently begins anew"
)
def test_all_damaged(runs, finished, observe):
    for step in steps(finished):
        (finished / "checkpoints" / step / "manifest" / "metadata").write_text("{}")
    before = files(finished / "checkpoints")
    outcome = runs.here(finished)
    assert outcome.code == 1
    assert "expected a good checkpoint, got" in outcome.message
    assert files(finished / "checkpoints") == before
    observe(outcome)


@pytest.mark.fault(
    "the best checkpoint damaged when it is to be reported",
    "exits with 1 and sets it aside; the same command then reports the best one that is left",
)
def test_best_damaged(runs, uninterrupted, finished, monkeypatch, observe):
    def damage_and_report(run, state, **options):
        best = int(records(uninterrupted)[-1]["best/step"])
        shutil.rmtree(finished / "checkpoints" / str(best) / "state")
        return report_best(run, state, **options)

    with monkeypatch.context() as patch:
        patch.setattr(runs.program, "report_best", damage_and_report)
        outcome = runs.here(finished)
    assert outcome.code == 1
    assert f"the best checkpoint is lost: {finished}/checkpoints/" in outcome.message
    assert len(steps(finished)) == 2
    again = runs.here(finished)
    assert again.code == 0
    assert "best checkpoint: step" in again.out
    observe(outcome)


@pytest.mark.fault(
    "a checkpoint of another model", "refused before the first step, naming the setting"
)
def test_another_model(runs, finished, observe):
    (finished / "metrics.jsonl").unlink()  # without a record, the workdir does not bind
    outcome = runs.here(finished, "model.dim=16")
    assert outcome.code == 1
    assert "another run: config.model.dim: expected 16, got 8" in outcome.message
    assert steps(finished) == {"10", "16", "20"}
    observe(outcome)


@pytest.mark.fault(
    "a checkpoint of another dtype or shape, as another version of the model would make",
    "refused, naming the leaf, expected and got",
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"param_dtype": "bfloat16"}, r"expected 'bfloat16\[1\]', got 'float32\[1\]'"),
        ({"dim": 5}, r"expected 'float32\[26,1\]', got 'float32\[21,1\]'"),
    ],
    ids=["dtype", "shape"],
)
def test_another_dtype_or_shape(runs, finished, monkeypatch, options, message, observe):
    monkeypatch.setattr(
        run, "create_model", lambda config, schema: small_model.SmallModel(schema, **options)
    )
    outcome = runs.here(finished)
    assert outcome.code == 1
    assert f"{finished}/checkpoints/20: a checkpoint of another state: " in outcome.message
    assert re.search(f"head/(bias|kernel): {message}", outcome.message), outcome.message
    assert steps(finished) == {"10", "16", "20"}
    observe(outcome)


@pytest.mark.fault(
    "a position in the data of another seed, batch size or list of files",
    "refused by the pipeline's fingerprint",
)
@pytest.mark.parametrize("change", ["data.seed=1", "data.batch_size=16", "other files"])
def test_another_pipeline(runs, finished, tmp_path, change, observe):
    (finished / "metrics.jsonl").unlink()
    if change == "other files":
        options = dict(tiny.experiment(runs.data).data.options)
        other = SOURCES["synthetic"].make_options(options)
        build_dataset("synthetic", other, tmp_path / "data", num_shards=2)
        change = f"data.directory={tmp_path / 'data'}"
    outcome = runs.here(finished, change)
    assert outcome.code == 1
    assert re.search("another run: (pipeline|num_steps): expected", outcome.message)
    assert steps(finished) == {"10", "16", "20"}
    observe(outcome)


@pytest.mark.slow
@pytest.mark.fault(
    "a flipped bit anywhere in a checkpoint, 20 times in the arrays and 20 anywhere",
    "20 of 20 in the arrays found; of the others, each is found or leaves the state bitwise right",
)
def test_twenty_flipped_bits(dataset, tmp_path, observe_text):
    source = BatchSource(dataset, split="train", batch_size=16, max_lens=toy.MAX_LENS)
    step, data = jax.jit(linear.train_step), make_train_iterator(source)
    # Numbers that do not compress: nearly every bit of the largest file is one of theirs.
    table = np.random.default_rng(0).normal(size=(100_000, 2)).astype(np.float32)
    states = {0: linear.initial_state().replace(tables={"item": jnp.asarray(table)})}
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, identity={})
    for number in (1, 2):
        states[number] = step(states[number - 1], next(data))
        checkpoints.save(states[number], data)
    checkpoints.close()

    draw, found = random.Random(0), {"arrays": 0, "anywhere": 0}
    for trial in range(40):
        kind = "arrays" if trial < 20 else "anywhere"
        copy = tmp_path / str(trial) / "checkpoints"
        shutil.copytree(tmp_path / "checkpoints", copy)
        candidates = [path for path in files(copy / "2") if path.stat().st_size]
        file = array_file(copy / "2") if kind == "arrays" else draw.choice(candidates)
        flip_bit(file, draw.randrange(8 * file.stat().st_size))
        checkpoints, data = Checkpoints(copy, keep=2, identity={}), make_train_iterator(source)
        state, damaged = checkpoints.restore_newest(states[0], data)
        checkpoints.close()
        shutil.rmtree(copy.parent)
        restored = int(state.step)
        assert (restored, len(damaged)) in {(1, 1), (2, 0)}
        assert_equal_states(state, states[restored])
        assert data.get_state() == {"next_index": restored}
        found[kind] += len(damaged)
    assert found["arrays"] == 20
    observe_text(
        f"arrays: 20 of 20 found; anywhere: {found['anywhere']} found, the others harmless"
    )
