"""What is damaged at random, and how each input is taken.

A target prepares a directory and returns the attempt of `fuzzing.count_refused`: it damages one
input, takes it, and asserts that whatever is accepted is right.
"""

import json
import pathlib
import shutil
import types

import chex
import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from kunlun_jax import command_line
from kunlun_jax.config import ConfigError, experiment_config, to_mapping
from kunlun_jax.data import (
    BatchSource,
    Dataset,
    DatasetError,
    Events,
    Request,
    batch_requests,
    make_train_iterator,
)
from kunlun_jax.data import format as blocks
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.manifest import MANIFEST
from kunlun_jax.data.own_data import load_schema
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.reading.shard_reader import read_shard
from kunlun_jax.training.checkpoint import Checkpoints
from kunlun_jax.training.run import open_run
from kunlun_jax.training.step import make_train_step
from kunlun_jax.training.workdir import MetricWriter, open_workdir
from tests.data import toy
from tests.data.comparing import assert_equal
from tests.faults.fuzzing import damaged_bytes, damaged_value
from tests.faults.harness import ROOT
from tests.faults.table_faults import write_views
from tests.training import linear, tiny
from tests.training.runs import assert_equal_states

SHOP = ROOT / "tests" / "data" / "shop"
TINY = ROOT / "tests" / "training" / "tiny.py"


def shard_files(directory):
    dataset = toy.toy_dataset(directory / "toy")
    path = min(dataset.directory.glob("*.arrayrecord"))
    content, whole = path.read_bytes(), read_shard(path, dataset.schema)

    def attempt(rng):
        path.write_bytes(damaged_bytes(content, rng))
        shard = read_shard(path, dataset.schema)
        assert_equal(shard.tables.logs, whole.tables.logs)
        assert_equal(shard.tables.splits, whole.tables.splits)

    return attempt


def blocks_of_shards(directory):
    """Damage under the file's own checksums, as a faulty writer leaves it."""
    dataset = toy.toy_dataset(directory / "toy")
    path = min(dataset.directory.glob("*.arrayrecord"))
    reader = blocks.ArrayRecordReader(str(path))
    records = [reader.read([i])[0] for i in range(reader.num_records())]
    reader.close()

    def attempt(rng):
        written, chosen = list(records), rng.integers(len(records))
        written[chosen] = damaged_bytes(written[chosen], rng)
        path.unlink()
        blocks.write_shard(path, iter(written))
        shard = read_shard(path, dataset.schema)  # of the schema, and not against itself
        assert set(shard.tables.splits) == {"train", "validation", "test"}

    return attempt


def manifests(directory):
    """Damage of the content, in a manifest of before there was a checksum."""
    dataset = toy.toy_dataset(directory / "toy")
    manifest = {k: v for k, v in dataset.manifest.items() if k != "manifest_sha256"}

    def attempt(rng):
        text = json.dumps(damaged_value(manifest, rng))
        (dataset.directory / MANIFEST).write_text(text)
        opened = Dataset.open(dataset.directory)
        for name, log in opened.logs.items():
            np.testing.assert_array_equal(log.times, dataset.logs[name].times)
        for name, examples in opened.splits.items():
            np.testing.assert_array_equal(examples.labels, dataset.splits[name].labels)

    return attempt


def manifest_files(directory):
    dataset = toy.toy_dataset(directory / "toy")
    path = dataset.directory / MANIFEST
    content = path.read_bytes()

    def attempt(rng):
        path.write_bytes(damaged_bytes(content, rng))
        opened = Dataset.open(dataset.directory)
        assert opened.schema == dataset.schema
        assert_equal(opened.splits, dataset.splits)

    return attempt


def files_of_columns(directory):
    """Damage under a run that has its data set open, or before it opens one."""
    dataset = toy.toy_dataset(directory / "toy")
    path, lens = dataset.columns.path, {"click": 8, "visit": 4}
    index = path.with_suffix(".json")
    content = {file: file.read_bytes() for file in (path, index)}
    options = {"split": "train", "batch_size": 64, "max_lens": lens}
    expected = BatchSource(dataset, **options)[3]

    def attempt(rng):
        for file in content:
            file.write_bytes(content[file])
        chosen = (path, index)[rng.integers(2)]
        chosen.write_bytes(damaged_bytes(content[chosen], rng))
        opened = Dataset.open(dataset.directory)
        opened.columns.confirm()
        chex.assert_trees_all_equal(BatchSource(opened, **options)[3], expected)

    return attempt


def configurations(directory):
    del directory
    mapping = to_mapping(tiny.experiment(pathlib.Path("data")))

    def attempt(rng):
        config = experiment_config(damaged_value(mapping, rng))
        assert experiment_config(to_mapping(config)) == config

    return attempt


def configuration_files(directory):
    """As train.py reads them; what is refused is refused in one line."""
    content, path = TINY.read_bytes(), directory / "config.py"

    def attempt(rng):
        path.write_bytes(damaged_bytes(content, rng))
        values = flags.FlagValues()
        holder = config_flags.DEFINE_config_file("config", None, "", flag_values=values)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                command_line, "flags", types.SimpleNamespace(**{**vars(flags), "FLAGS": values})
            )
            try:
                command_line.parse_flags(["train.py", f"--config={path}"], holder)
            except SystemExit as leaving:
                assert isinstance(leaving.code, str)
                assert leaving.code.startswith("error: ")
                assert "\n" not in leaving.code
                raise ConfigError(leaving.code) from None
        experiment_config(holder.value)

    return attempt


def working_directories(directory):
    workdir, config = directory / "run", tiny.experiment(directory / "data")
    with open_workdir(workdir, config):
        writer = MetricWriter(workdir, from_step=0)
        for step in range(5):
            writer.write(step, {"train/loss": 0.5})
        writer.close()
    contents = {name: (workdir / name).read_bytes() for name in ("config.json", "metrics.jsonl")}

    def attempt(rng):
        for name, content in contents.items():
            (workdir / name).write_bytes(content)
        name = ("config.json", "metrics.jsonl")[rng.integers(2)]
        (workdir / name).write_bytes(damaged_bytes(contents[name], rng))
        shutil.rmtree(workdir / "tensorboard", ignore_errors=True)
        with open_workdir(workdir, config):
            MetricWriter(workdir, from_step=3).close()
        for line in (workdir / "metrics.jsonl").read_text().splitlines():
            assert json.loads(line)["step"] <= 3

    return attempt


def tables(directory, *, views):
    """Tables of one's own; only the views are damaged."""
    shop = pathlib.Path(shutil.copytree(SHOP, directory / "shop"))
    schema, path, out = load_schema(shop / "my_schema.py"), shop / views, directory / "built"
    if path.suffix == ".parquet":
        write_views(shop)
    content = path.read_bytes()
    inputs = Inputs({"impressions": (shop / "impressions.csv",), "view": (path,)})

    def attempt(rng):
        shutil.rmtree(out, ignore_errors=True)
        path.write_bytes(damaged_bytes(content, rng))
        build_own_data(schema, inputs, out, num_shards=1)
        assert Dataset.open(out).manifest["counts"]["events"]["view"] > 0

    return attempt


def checkpoints(directory):
    """The newest of two is damaged: it is right, or the one before is taken."""
    dataset = toy.toy_dataset(directory / "toy")
    source = BatchSource(dataset, split="train", batch_size=16, max_lens=toy.MAX_LENS)
    step, data = jax.jit(linear.train_step), make_train_iterator(source)
    states = {0: linear.initial_state()}
    saved, copy = directory / "saved" / "checkpoints", directory / "copy" / "checkpoints"
    writer = Checkpoints(saved, keep=2, identity={})
    for number in (1, 2):
        states[number] = step(states[number - 1], next(data))
        writer.save(states[number], data)
    writer.close()

    def attempt(rng):
        shutil.rmtree(copy.parent, ignore_errors=True)
        shutil.copytree(saved, copy)
        files = sorted(p for p in (copy / "2").rglob("*") if p.is_file() and p.stat().st_size)
        file = files[rng.integers(len(files))]
        file.write_bytes(damaged_bytes(file.read_bytes(), rng))
        reader, data = Checkpoints(copy, keep=2, identity={}), make_train_iterator(source)
        state, damaged = reader.restore_newest(states[0], data)
        reader.close()
        assert (int(state.step), len(damaged)) in {(1, 1), (2, 0)}
        assert_equal_states(state, states[int(state.step)])
        assert data.get_state() == {"next_index": int(state.step)}
        if damaged:
            raise DatasetError(damaged[0])  # counts as found

    return attempt


def requests(directory):
    del directory
    whole = {
        "time": 1_500_100_000,
        "dense": {"price": 1.5, "hour": 3},
        "sparse": {"user": 1, "item": 2, "tags": [1, 2]},
        "events": {
            "click": {
                "times": [1_500_000_000, 1_500_000_007],
                "ids": {"item": [1, 2], "tag": [3, 4]},
                "dense": {"amount": [1.0, 2.0], "score": [None, 0.5]},
            }
        },
    }

    def attempt(rng):
        value = damaged_value(whole, rng)
        if isinstance(value.get("events"), dict):
            known = {"times", "ids", "dense"}
            value["events"] = {
                name: Events(**e) if isinstance(e, dict) and set(e) <= known else e
                for name, e in value["events"].items()
            }
        value.pop("unheard of", None)
        value.setdefault("time", 1_500_100_000)
        batch = batch_requests([Request(**value)], toy.SCHEMA, max_lens=toy.MAX_LENS)
        for leaf in jax.tree.leaves(batch):
            assert np.isfinite(leaf).all()
        assert batch.sparse["item"].ids.max() <= toy.NUM_ITEMS
        assert batch.streams["click"].ids["item"].min() >= 0

    return attempt


def runs_of_configurations(directory):
    """What a configuration's check lets through also makes a model and a training step."""
    mapping = to_mapping(tiny.experiment(directory / "data"))
    models = ("kunlun", "wukong", "interformer", "din", "hstu", "tokenformer", "unidot")

    def attempt(rng):
        value = {**mapping, "model": {**mapping["model"], "name": models[rng.integers(6)]}}
        part = ("model", "optimizer", "training", "mesh")[rng.integers(4)]
        value[part] = damaged_value(value[part], rng)
        config = experiment_config(value)
        workdir = directory / "run"
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir()
        with open_run(config, workdir) as run:
            step = make_train_step(run.model, run.data.schema, config, num_steps=run.num_steps)
            state = jax.eval_shape(step, run.state_shapes, run.train_batches[0])
        assert state.step.dtype == "int32"

    return attempt
