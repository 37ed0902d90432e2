"""Runs that begin with the weights of another, of the same data set and of one that extends it."""

import copy
import dataclasses
import json
import shutil

import jax
import numpy as np
import optax
import pytest

from kunlun_jax.config import experiment_config, to_mapping
from kunlun_jax.data import DatasetError
from kunlun_jax.models.registry import create_model
from kunlun_jax.sharding import BatchShare
from kunlun_jax.training.checkpoint import CheckpointError
from kunlun_jax.training.finished_run import open_finished, read_config
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import fresh_state, open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.step import apply_model
from kunlun_jax.training.warm_start import INIT_FILE, WarmStart, described
from kunlun_jax.training.workdir import WorkdirError, open_workdir
from tests.data.cross_oracle import DAY
from tests.data.own_data import world
from tests.processes import run_python
from tests.training.runs import assert_equal_states
from tests.training.test_other_run import rows_of

TABLES = world.make_tables(8, num_users=40, num_requests=600, num_events=400, stride=DAY)


@pytest.fixture(scope="module")
def tomorrow(tmp_path_factory, world_run):
    """A data set that extends that of the run; some items and tags are new."""
    tables = copy.deepcopy(TABLES)
    known = world_run.dataset.schema.vocabulary_by_name["item"].num_rows
    new = [f"new {i}" for i in range(24 - known)]  # 24 rows, which eight devices can share
    for i, row in enumerate(tables["impressions"][: 4 * len(new)]):
        row["item"] = new[i % len(new)]
    for row in tables["view"]:
        row["tag"] = {"d": "new"}.get(row["tag"], row["tag"])
    root = tmp_path_factory.mktemp("tomorrow")
    return world.build(root, tables, extend=world_run.workdir / "dataset")


def changed(world_run, dataset, **changes):
    """Return the configuration of the run, on another data set and with settings changed."""
    values = to_mapping(read_config(world_run.workdir))
    values["data"]["directory"] = str(dataset.directory)
    for path, value in changes.items():
        group, _, name = path.partition("__")
        values[group][name] = value
    return experiment_config(values)


@pytest.fixture(scope="module")
def begin(world_run):
    """Begin a run in a directory; returns its initial state, and the run's state to compare."""

    def begin(workdir, dataset, optimizer="fresh", source=None, tables="keep", **changes):
        config = changed(world_run, dataset, **changes)
        with open_workdir(workdir, config), open_run(config, workdir) as run:
            start = WarmStart.of(workdir, str(source or world_run.workdir), optimizer, tables)
            return jax.device_get(run.resume_or_initialize(start.state)), jax.device_get(
                fresh_state(run)
            )

    return begin


@pytest.fixture(scope="module")
def trained(world_run):
    with open_finished(world_run.workdir) as (_, state):
        return jax.device_get(state)


@pytest.fixture(scope="module")
def begun(begin, world_run, tmp_path_factory):
    """A run on the same data set: its directory, its initial state, and a fresh one."""
    workdir = tmp_path_factory.mktemp("same") / "run"
    return workdir, *begin(workdir, world_run.dataset)


@pytest.fixture(scope="module")
def grown_run(begin, tomorrow, tmp_path_factory):
    """The same of a run on the data set that extends it."""
    workdir = tmp_path_factory.mktemp("extended") / "run"
    return workdir, *begin(workdir, tomorrow)


class TestTheSameDataSet:
    def test_weights_are_taken_bit_by_bit(self, begun, trained):
        _, state, _ = begun
        assert_equal_states((state.params, state.tables), (trained.params, trained.tables))

    def test_all_the_rest_is_fresh(self, begun):
        _, state, fresh = begun
        rest = {"params": {}, "tables": {}}
        assert_equal_states(state.replace(**rest), fresh.replace(**rest))

    def test_what_was_taken_is_said(self, begun, world_run):
        workdir, _, _ = begun
        lines = described(workdir).splitlines()
        assert lines[0].startswith("began with step ")
        assert lines[0].endswith(f" of {world_run.workdir}")
        assert "  table item: 9 rows taken, as it was" in lines
        assert "  optimizer: fresh; moments and sums were not taken" in lines


@pytest.mark.parametrize("optimizer", ["fresh", "keep"])
def test_with_fresh_tables_the_dense_parameters_are_taken(
    tmp_path, begin, world_run, tomorrow, trained, optimizer
):
    """Of a data set that extends the run's: nothing depends on whose rows there were."""
    workdir = tmp_path / "run"
    state, fresh = begin(workdir, tomorrow, optimizer, tables="fresh")
    assert_equal_states(state.params, trained.params)
    assert_equal_states((state.tables, state.accumulators), (fresh.tables, fresh.accumulators))
    moments = [jax.tree.leaves(s.opt_state) for s in (state, fresh)]
    same = all(np.array_equal(a, b) for a, b in zip(*moments, strict=True))
    assert same == (optimizer == "fresh")
    assert "  tables: fresh; no rows were taken" in described(workdir).splitlines()


class TestAnExtendedOne:
    def test_known_rows_are_taken_and_new_ones_fresh(self, grown_run, trained, world_run, tomorrow):
        workdir, state, fresh = grown_run
        known, new = (d.schema.vocabulary_by_name for d in (world_run.dataset, tomorrow))
        assert new["item"].num_rows == 24
        for name, table in state.tables.items():
            count, rows = known[name].num_rows, new[name].num_rows
            taken = rows_of(trained.tables[name], np.arange(count), count)
            np.testing.assert_array_equal(rows_of(table, np.arange(count), rows), taken)
            others = np.arange(count, rows)
            np.testing.assert_array_equal(
                rows_of(table, others, rows), rows_of(fresh.tables[name], others, rows)
            )
        line = f"  table item: {known['item'].num_rows} rows taken, grown to 24, the new ones as in"
        assert line in described(workdir)

    def test_at_step_0_what_was_known_scores_as_before(
        self, grown_run, trained, world_run, tomorrow
    ):
        """Bit for bit, whatever the size of the tables: requests of the data set before."""
        _, state, _ = grown_run
        scores = []
        with open_finished(world_run.workdir) as (run, _):
            source = run.data.eval_batches("test", run.mesh)
            batch = BatchShare(run.mesh, source.batch_size).put(source[0])
            for dataset, found in ((world_run.dataset, trained), (tomorrow, state)):
                model = create_model(changed(world_run, dataset), dataset.schema)
                apply = jax.jit(lambda p, t, b, model=model: apply_model(model, p, t, b))
                scores.append(np.asarray(apply(found.params, found.tables, batch)))
        assert np.unique(scores[0]).size > 10
        assert scores[0].tobytes() == scores[1].tobytes()

    @pytest.mark.slow
    def test_it_trains_resumes_and_reports(self, tmp_path, world_run, tomorrow):
        config = changed(world_run, tomorrow)
        states = []
        for _ in range(2):  # the second time without the flag, from a checkpoint
            with open_workdir(tmp_path / "run", config), open_run(config, tmp_path / "run") as run:
                given = None if states else str(world_run.workdir)
                start = WarmStart.of(tmp_path / "run", given, "fresh")
                state, complete = run_loop(
                    run, run.resume_or_initialize(start.state), run.train_step()
                )
                assert complete
                assert "best checkpoint" in report_best(run, state)
            states.append(jax.device_get(state))
        assert_equal_states(*states)


class TestTheOptimizer:
    def test_kept_its_moments_go_on_and_its_schedule_begins_anew(
        self, begin, trained, tomorrow, tmp_path, world_run
    ):
        state, fresh = begin(tmp_path / "run", tomorrow, "keep")
        counts = {}
        for name, found in (("old", trained), ("now", state), ("fresh", fresh)):
            moments = jax.tree.leaves(
                found.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState)
            )
            counts[name] = next(x for x in moments if isinstance(x, optax.ScaleByAdamState))
        assert_equal_states(counts["now"], counts["old"])
        schedules = [
            x
            for x in jax.tree.leaves(
                state.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
            )
            if isinstance(x, optax.ScaleByScheduleState)
        ]
        assert [int(x.count) for x in schedules] == [0]
        known, new = (d.schema.vocabulary_by_name for d in (world_run.dataset, tomorrow))
        for name, sums in state.accumulators.items():
            count, rows = known[name].num_rows, new[name].num_rows
            taken = rows_of(trained.accumulators[name], np.arange(count), count)
            np.testing.assert_array_equal(rows_of(sums, np.arange(count), rows), taken)
            assert (rows_of(sums, np.arange(count, rows), rows) == np.float32(1e-8)).all()
        assert int(state.step) == 0

    def test_of_another_kind_is_refused(self, begin, world_run, tmp_path):
        with pytest.raises(CheckpointError, match="expected the same optimizer, got another"):
            begin(tmp_path / "run", world_run.dataset, "keep", optimizer__clip_norm=0.0)


class TestRefusals:
    def test_another_width(self, begin, world_run, tmp_path):
        with pytest.raises(CheckpointError, match=r": params/.*: expected float32\[.*, got float"):
            begin(tmp_path / "run", world_run.dataset, model__dim=16)

    def test_another_width_of_a_table(self, begin, world_run, tmp_path):
        message = r"tables/item: expected float32\[rows,4\], got float32\[rows,8\]"
        with pytest.raises(CheckpointError, match=message):
            begin(tmp_path / "run", world_run.dataset, model__table_dims={"item": 4})

    def test_another_type_of_tables(self, begin, world_run, tmp_path):
        with pytest.raises(CheckpointError, match=r"tables/item: expected bfloat16"):
            begin(tmp_path / "run", world_run.dataset, optimizer__table_dtype="bfloat16")

    def test_another_model(self, begin, world_run, tmp_path):
        with pytest.raises(CheckpointError, match="expected a run of model wukong, got din"):
            begin(tmp_path / "run", world_run.dataset, model__name="wukong")

    def test_vocabularies_that_are_no_extension(self, begin, tmp_path):
        tables = copy.deepcopy(TABLES)
        for row in tables["impressions"]:
            row["item"] = "0"
        other = world.build(tmp_path, tables)
        with pytest.raises(DatasetError, match=r"does not extend"):
            begin(tmp_path / "run", other)

    def test_no_run(self, begin, world_run, tmp_path):
        with pytest.raises(WorkdirError, match="expected the working directory of a run"):
            begin(tmp_path / "run", world_run.dataset, source=tmp_path / "nowhere")

    def test_a_run_that_is_not_finished(self, begin, world_run, tmp_path):
        source = tmp_path / "source"
        shutil.copytree(world_run.workdir, source)
        lines = (source / "metrics.jsonl").read_text().splitlines(keepends=True)
        (source / "metrics.jsonl").write_text("".join(lines[:-1]))
        with pytest.raises(CheckpointError, match="expected a finished run"):
            begin(tmp_path / "run", world_run.dataset, source=source)

    def test_a_damaged_checkpoint(self, begin, world_run, tmp_path):
        source = tmp_path / "source"
        shutil.copytree(world_run.workdir, source)
        for file in sorted((source / "checkpoints").rglob("d/*")):
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 64
            file.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(source)):
            begin(tmp_path / "run", world_run.dataset, source=source)
        assert not (tmp_path / "run" / INIT_FILE).exists()


class TestWhichRun:
    """What the flags say, and what an earlier start has recorded."""

    def recorded(self, tmp_path, begin, world_run, *, trained):
        workdir = tmp_path / "run"
        begin(workdir, world_run.dataset)
        if trained:
            (workdir / "metrics.jsonl").write_text('{"step": 1}\n')
        return workdir

    def test_a_start_that_recorded_nothing_does_not_bind(self, tmp_path, begin, world_run):
        workdir = self.recorded(tmp_path, begin, world_run, trained=False)
        assert WarmStart.of(workdir, None, "fresh").run is None
        config = changed(world_run, world_run.dataset)
        with open_workdir(workdir, config), open_run(config, workdir) as run:
            run.resume_or_initialize(WarmStart.of(workdir, None, "fresh").state)
        assert not (workdir / INIT_FILE).exists()

    def test_one_that_did_goes_on_with_or_without_the_flag(self, tmp_path, begin, world_run):
        workdir = self.recorded(tmp_path, begin, world_run, trained=True)
        found = WarmStart.of(workdir, None, "fresh")
        assert found == WarmStart.of(workdir, str(world_run.workdir), "fresh")
        assert found.run == world_run.workdir
        assert found.checksum

    @pytest.mark.parametrize(
        ("run", "optimizer", "tables"),
        [(None, "keep", "keep"), ("other", "fresh", "keep"), (None, "fresh", "fresh")],
    )
    def test_another_is_refused(self, tmp_path, begin, world_run, run, optimizer, tables):
        workdir = self.recorded(tmp_path, begin, world_run, trained=True)
        began = r"began with --init_from=.* --init_optimizer=fresh --init_tables=keep, got .*"
        with pytest.raises(WorkdirError, match=began):
            WarmStart.of(workdir, run or str(world_run.workdir), optimizer, tables)

    def test_a_record_of_before_there_was_a_choice_of_tables(self, tmp_path, begin, world_run):
        workdir = self.recorded(tmp_path, begin, world_run, trained=True)
        record = json.loads((workdir / INIT_FILE).read_text())
        del record["tables"]
        (workdir / INIT_FILE).write_text(json.dumps(record))
        assert WarmStart.of(workdir, None, "fresh").tables == "keep"

    def test_a_run_that_began_afresh_takes_none(self, tmp_path, world_run):
        shutil.copytree(world_run.workdir, tmp_path / "run")
        with pytest.raises(WorkdirError, match="began without --init_from"):
            WarmStart.of(tmp_path / "run", str(world_run.workdir), "fresh")

    def test_another_checkpoint_than_it_began_from(self, tmp_path, begin, world_run):
        workdir = self.recorded(tmp_path, begin, world_run, trained=True)
        record = json.loads((workdir / INIT_FILE).read_text())
        (workdir / INIT_FILE).write_text(json.dumps(record | {"checksum": "0"}))
        with pytest.raises(WorkdirError, match="began from another checkpoint"):
            begin(workdir, world_run.dataset)

    @pytest.mark.parametrize("text", ["{", "[]", '{"run": "x"}'])
    def test_a_damaged_record(self, tmp_path, begin, world_run, text):
        workdir = self.recorded(tmp_path, begin, world_run, trained=True)
        (workdir / INIT_FILE).write_text(text)
        with pytest.raises(WorkdirError, match=INIT_FILE):
            WarmStart.of(workdir, None, "fresh")


def test_on_eight_devices_a_run_begins_with_the_same_bits(tmp_path, begin, world_run, tomorrow):
    """The source was trained on one device; rows of tables are split over eight."""
    config = changed(world_run, tomorrow, data__batch_size=32)
    (tmp_path / "config.json").write_text(json.dumps(to_mapping(config)))
    outcome = run_python(
        "-m",
        "tests.training.sharded_warm_start",
        tmp_path / "config.json",
        world_run.workdir,
        tmp_path / "run",
        variables={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    )
    assert outcome.returncode == 0, outcome.stderr
    state, _ = begin(tmp_path / "one", tomorrow, "keep")
    with np.load(tmp_path / "run" / "state.npz") as found:
        for path, leaf in jax.tree_util.tree_leaves_with_path(dataclasses.asdict(state)):
            name = jax.tree_util.keystr(path)
            assert found[name].tobytes() == np.asarray(leaf).tobytes(), name
