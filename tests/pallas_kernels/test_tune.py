import json
from importlib import resources

import jax
import jax.numpy as jnp
import pytest

from pallas_kernels import assembler, timing, trials, tune
from pallas_kernels.tile_choices import Tile, choices_for, choose, table, tile_of
from pallas_kernels.timing import Budget
from pallas_kernels.trials import Bucket

FORWARD = Bucket("gdpa_forward", 2, 64, keys=128)
ANY_KEYS = Bucket("gdpa_forward", 2, 64)


def test_candidates_are_chosen_as_they_are():
    # A tile that is cut down to a bucket's sizes would be timed under another's name.
    for bucket in tune.buckets(tune.KERNELS, (16, 64, 256)):
        tiles = tune.candidates(bucket)
        assert len(set(tiles)) == len(tiles) >= 3, bucket
        for tile in tiles:
            assert tile.within(bucket.num_rows, bucket.num_keys) == tile


def test_every_kernel_of_the_table_is_tuned():
    assert set(tune.KERNELS) == set(table()["default"])


def test_the_fastest_wins_and_a_tie_goes_to_the_first():
    small, large, slow = (Tile(size, size, 4, 2) for size in (32, 64, 128))
    assert tune.fastest({small: 1.05, large: 1.0, slow: 2.0}) == large
    assert tune.fastest({small: 1.005, large: 1.0, slow: 2.0}) == small
    assert tune.fastest({}) is None


def test_entries_are_replaced_and_tight_bounds_stand_first():
    old, new = Tile(32, 32, 4, 1), Tile(64, 64, 4, 2)
    entries = [{"itemsize": 2, "head_dim": 128, "tile": [1, 1, 1, 1]}]
    entries = tune.merged(entries, ANY_KEYS, old)
    entries = tune.merged(entries, FORWARD, old)
    entries = tune.merged(entries, ANY_KEYS, new)
    assert [(e["head_dim"], e.get("keys")) for e in entries] == [(64, 128), (64, None), (128, None)]
    assert tile_of(entries[1]) == new


def test_winners_reach_the_file_and_are_chosen_from_it(tmp_path, monkeypatch):
    path = tmp_path / "tile_choices.json"
    sections = {"default": {"gdpa_forward": [ANY_KEYS.entry(Tile(16, 16, 4, 1))]}}
    favourite = Tile(64, 128, 8, 3, 0)
    left = tune.tune(
        [FORWARD, ANY_KEYS],
        sections,
        "9.0",
        measure=lambda bucket, tiles: (
            {tile: 1.0 + (tile != favourite) for tile in tiles} if bucket == FORWARD else {}
        ),
        save=lambda sections: tune._save(path, sections),
        budget=Budget(60.0),
    )
    assert left == []
    monkeypatch.setattr("pallas_kernels.tile_choices.table", lambda: json.loads(path.read_text()))
    like = jnp.zeros((1, 64), jnp.bfloat16)
    with choices_for("9.0"):
        assert choose("gdpa_forward", like, rows=1024, keys=128) == favourite
        # No candidate of the other bucket worked: the default section decides.
        assert choose("gdpa_forward", like, rows=1024, keys=512) == Tile(16, 16, 4, 1)


def test_buckets_beyond_the_time_budget_are_named():
    def measure(bucket, tiles):
        raise AssertionError("no time for this")

    todo = [FORWARD, ANY_KEYS]
    left = tune.tune(todo, {}, "9.0", measure=measure, save=lambda _: None, budget=Budget(0.0))
    assert left == todo


def test_a_trial_runs_its_tile_and_is_checked(monkeypatch):
    kernel = "seed_attention_backward_keys"
    monkeypatch.setattr(trials, "_LONG", 16)
    monkeypatch.setattr(trials, "_MANY_SEEDS", 16)
    monkeypatch.setattr(trials, "num_sets", lambda _: 1)
    monkeypatch.setattr(trials, "seconds_per_call", lambda *_: 1.0)
    seen = []

    def spy(name, *arguments, **sizes):
        seen.append((name, choose(name, *arguments, **sizes)))
        return seen[-1][1]

    monkeypatch.setattr("pallas_kernels.seed_attention.api.choose", spy)
    tile = Tile(16, 16, 8, 3)
    problem = trials.problem_of(Bucket(kernel, 2, 32), "triton_interpret", batch=1)
    options = {"section": {}, "workers": 1, "budget": Budget(600.0)}
    [trial] = trials.try_tiles(problem, [tile], **options).values()
    assert trial == (1.0, "no PTX to read spills from")
    assert (kernel, tile) in seen
    assert not [name for name in table() if name.startswith("trial")]
    wrong = problem._replace(want=jax.tree.map(lambda x: 2.0 * x, problem.want))
    [reason] = trials.try_tiles(wrong, [tile], **options).values()
    assert str(reason).startswith("dropped: relative error 5.0e-01")


LOG = """
ptxas info    : (C7515) Potential Performance Loss: wgmma.mma_async instructions are serialized \
due to non wgmma instructions in the function 'gdpa_backward' in line 1794
ptxas info    : Compiling entry function 'gdpa_backward' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'gdpa_backward_queries' for 'sm_90a'
    0 bytes stack frame, 40 bytes spill stores, 56 bytes spill loads
"""


def test_what_the_assembler_says_belongs_to_the_kernel_it_names():
    assert assembler.in_words(LOG, "gdpa_backward") == "products one at a time"
    assert assembler.in_words(LOG, "gdpa_backward_queries") == "spills 96 bytes"
    assert assembler.in_words(LOG, "gdpa_forward") == "ptxas says nothing of spills"


def test_backward_kernels_come_first_and_the_package_is_left_alone():
    first = tune.buckets(tune.KERNELS, tune.HEAD_DIMS)[0]
    assert (first.kernel, first.itemsize, first.head_dim) == ("gdpa_backward_queries", 2, 128)
    assert not tune.TABLE.resolve().is_relative_to(resources.files("pallas_kernels"))


def test_a_bucket_may_be_for_rotated_rows_alone():
    bucket = Bucket("window_attention_backward_keys", 2, 128, rotated=True)
    entry = bucket.entry(Tile(64, 64, 4, 2))
    assert entry == {"itemsize": 2, "head_dim": 128, "rotated": True, "tile": [64, 64, 4, 2]}
    apart = Bucket("gdpa_backward", 2, 128).entry(Tile(32, 128, 8, 2, query_gradient="apart"))
    assert apart["query_gradient"] == "apart"
    assert tile_of(apart) == Tile(32, 128, 8, 2, query_gradient="apart")


def test_what_does_not_compile_is_dropped_with_the_reason():
    tries = []

    def too_large():
        raise RuntimeError("RESOURCE_EXHAUSTED: Shared memory size limit exceeded")

    def crowded():
        tries.append(0)
        if len(tries) == 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: failed to allocate 8 GB")
        return "program"

    jobs = {"good": lambda: "program", "large": too_large, "crowded": crowded}
    found = timing.compile_all(jobs, workers=3, budget=Budget(60.0))
    assert found["good"] == found["crowded"] == "program"
    assert "Shared memory" in timing.first_line(found["large"])
    assert timing.first_line(RuntimeError("CUDA out of memory")) == "out of memory"


def test_calls_in_a_loop_are_all_made():
    sets = [(jnp.full((8, 8), number),) for number in (1.0, 2.0, 3.0)]

    def square(x):
        return x @ x

    loop = jax.jit(lambda turns, sets: timing.calls_in_turn(square, turns, sets))
    text = loop.lower(2, sets).compile().as_text()
    assert text.count(" dot(") == 3 or text.count("custom-call(") == 3
    for result, (x,) in zip(loop(2, sets), sets, strict=True):
        assert (result == x @ x).all()
    assert timing.seconds_in_loop(square, sets, rounds=1) > 0


def test_small_arrays_rotate():
    assert timing.num_sets(200e6) == 1
    assert timing.num_sets(100e6) == 3
    assert timing.num_sets(1e3) == 6


def test_without_a_gpu_one_line_says_so(monkeypatch):
    if jax.devices()[0].platform == "gpu":
        pytest.skip("there is a GPU")
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.raises(SystemExit, match="no GPU here to tune for") as stopped:
        tune.main(["--budget-seconds=1"])
    assert stopped.value.code != 0


def test_an_unknown_kernel_is_refused(capsys):
    with pytest.raises(SystemExit):
        tune.main(["--kernels=gdpa_sideways"])
    assert "expected some of gdpa_backward_queries" in capsys.readouterr().err
