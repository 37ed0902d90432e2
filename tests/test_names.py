"""Names of columns, streams and tasks as people have them, from the tables to the end of a run."""

import csv
import html
import json
import random

import pytest

from configs import own_data
from kunlun_jax.compare import compare_runs
from kunlun_jax.config import experiment_config
from kunlun_jax.data import Dataset, Request, batch_requests
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.own_data import Events, TableSchema
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.data.schema import SparseFeature
from kunlun_jax.data.validate import validate
from kunlun_jax.flops import flops_by_module, flops_by_stream
from kunlun_jax.plan.machines import machine
from kunlun_jax.plan.requirements import requirements
from kunlun_jax.report.writing import report_runs
from kunlun_jax.training.diagnosis import Diagnosis, load_batch, save_diagnosis
from kunlun_jax.training.results import report_best
from kunlun_jax.training.run import open_run
from kunlun_jax.training.run_loop import run_loop
from kunlun_jax.training.workdir import open_workdir
from tests.report.reading import problems
from tests.training.runs import assert_equal_states, records

ITEM, TAG, PRICE, SECONDS = "item/no. 1", "../tag|x", "price 店 $/kg$", "größe [s]"
STREAMS = ("class", "layer_0", "página-3", "página-3_final")
TASKS = ("click 店", "log_loss")
SCHEMA = TableSchema(
    name="Läden | $店$",
    sparse=(ITEM, SparseFeature(TAG, "a.b/c")),
    candidate=(ITEM,),
    dense=(PRICE,),
    labels=TASKS,
    streams=tuple(Events(name, ids=(ITEM,), dense=(SECONDS,)) for name in STREAMS),
)
NOW = 1_700_000_000


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("names")
    draw = random.Random(0)

    def row(**more):
        user, item = draw.randrange(20), draw.randrange(9)
        return {"user": user, "time": NOW + draw.randrange(10**6), ITEM: f"i{item}"} | more

    requests = [
        row(**{TAG: f"t{draw.randrange(3)}", PRICE: draw.random(), SECONDS: 1})
        | {task: draw.randrange(2) for task in TASKS}
        for _ in range(300)
    ]
    write(directory / "impressions.csv", requests)
    write(directory / "events.csv", [row(**{SECONDS: draw.random()}) for _ in range(400)])
    events = [f"{name}={directory / 'events.csv'}" for name in STREAMS]
    inputs = Inputs.parse(SCHEMA, str(directory / "impressions.csv"), events)
    build_own_data(SCHEMA, inputs, directory / "data")
    return Dataset.open(directory / "data")


def experiment(dataset, streams=STREAMS, model="kunlun"):
    config = own_data.get_config(str(dataset.directory))
    config.update_from_flattened_dict(
        {"model.name": model, "model.dim": 8, "model.num_layers": 1, "model.n_sum": 4,
         "data.batch_size": 40, "model.head_dims": (8,),
         "training.log_every": 2, "training.eval_every": 3}
    )  # fmt: skip
    small = {"model_dim": 8, "num_layers": 1, "n_tokens": 2, "n_seeds": 4, "n_kv": 4, "max_len": 4}
    for name in STREAMS:
        config.model.streams[name].update(small)
        if name not in streams:
            del config.model.streams[name]
    return experiment_config(config)


@pytest.mark.slow
def test_they_work_from_the_tables_to_the_end(dataset, tmp_path):
    config = experiment(dataset, STREAMS[::2], "din")
    assert validate(dataset.directory).findings == []
    with open_workdir(tmp_path / "run", config) as workdir, open_run(config, workdir) as run:
        assert all(name in run.summary() for name in STREAMS[::2])
        state, complete = run_loop(run, run.resume_or_initialize(), run.train_step(), deadline=0.0)
        assert not complete
    with open_workdir(tmp_path / "run", config) as workdir, open_run(config, workdir) as run:
        state, complete = run_loop(run, run.resume_or_initialize(), run.train_step())
        assert complete
        assert report_best(run, state).startswith("best checkpoint")
    *_, last = records(workdir)
    assert {f"test/{task}/normalized_entropy" for task in TASKS} <= set(last)
    page = report_runs([workdir], num_resamples=9)
    assert problems(page) == []
    assert all(html.escape(name, quote=False) in page for name in (*TASKS, *STREAMS[::2], ITEM))
    result = compare_runs(str(workdir), str(workdir), task=TASKS[0], num_resamples=9)
    assert json.loads(json.dumps(result))["task"] == TASKS[0]
    requests = [Request(NOW, {PRICE: 1.0}, {ITEM: 1, TAG: 2})]
    batch = batch_requests(requests, dataset.schema, max_lens=dict.fromkeys(STREAMS, 4))
    save_diagnosis(tmp_path / "kept", batch, Diagnosis((), (), ()))
    assert_equal_states(load_batch(tmp_path / "kept" / "batch.npz"), batch)


def test_every_stream_has_its_own_operations(dataset):
    """`página-3`'s final pooling is no pooling of `página-3_final`."""
    model, schema = experiment(dataset).model, dataset.schema
    by_module, by_stream = flops_by_module(model, schema), flops_by_stream(model, schema)
    modules = {path: path.rsplit("/", 1)[-1] for path in by_module}
    of_streams = [path for path, name in modules.items() if name.startswith(STREAMS)]
    assert sum(by_stream.values()) == sum(by_module[path] for path in of_streams)
    assert len(set(by_stream.values())) == 1  # they are the same but for their names


def test_a_plan_knows_the_modules_of_every_stream(dataset):
    found = requirements(experiment(dataset), dataset.schema, machine("b200"))
    assert {f"{name}_encoder" for name in STREAMS} <= set(found.least_seconds)
    assert found.parameters.keys() <= found.flops_per_example.keys()
