"""An exported model scores as the run does, where this package cannot be imported."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import jaxtyping
import numpy as np
import pytest

from configs import own_data
from kunlun_jax.config import experiment_config
from kunlun_jax.data import Dataset, DatasetError, Events, Request, batch_requests
from kunlun_jax.data.batch import batch_shapes
from kunlun_jax.files import json_sha256
from kunlun_jax.models import create_model
from kunlun_jax.serving import Ranker, reader
from kunlun_jax.serving.export import export, inputs_of
from kunlun_jax.serving.keys import Keys
from kunlun_jax.serving.trained import open_trained
from tests import factories
from tests.data import toy
from tests.data.reading.test_requests import request_of

# What a process without the package sees of it, or of what it is built on.
ALONE = """
import runpy, sys
for name in ("kunlun_jax", "pallas_kernels", "flax", "orbax", "pyarrow", "duckdb", "optax"):
    sys.modules[name] = None
runpy.run_path(sys.argv[1], run_name="__main__")
"""


# Another Python, with another JAX: `.ci/run` names one with the newest of the range.
OTHER_PYTHON = os.environ.get("KUNLUN_OTHER_PYTHON")


def alone(directory, requests, python=sys.executable):
    """Run the reader in a process of its own, isolated."""
    return subprocess.run(
        [python, "-I", "-c", ALONE, str(directory / "reader.py")],
        input="\n".join(map(json.dumps, requests)),
        env={name: x for name, x in os.environ.items() if name != "PYTHONPATH"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def whole(text):
    return int(text) if text.isdecimal() else text


def number(text):
    return None if text == "" else float(text)


@pytest.fixture(scope="module")
def requests(world_run):
    """Every impression as a request of its table's keys, with all events of its user."""
    tables, found = world_run.tables, []
    for row in tables["impressions"][:150]:
        views = [event for event in tables["view"] if event["user"] == row["who"]]
        orders = [
            event
            for event in tables["order"]
            if event["buyer"] == row["who"] and event["state"] == "paid"
        ]
        found.append(
            {
                "time": int(row["time"]),
                "dense": {"price": number(row["price"].replace("nan", ""))},
                "sparse": {
                    "item": whole(row["item"]),
                    "tags": row["tags"].split("|"),
                    "site": row["site"] or None,
                },
                "events": {
                    "view": {
                        "times": [int(event["time"]) for event in views],
                        "ids": {n: [whole(event[n]) for event in views] for n in ("item", "tag")},
                        "dense": {"amount": [number(event["amount"]) for event in views]},
                    },
                    "order": {
                        "times": [int(event["at"]) for event in orders],
                        "ids": {"item": [event["item"] for event in orders]},
                    },
                },
            }
        )
    return found


def as_request(request):
    events = {name: Events(**columns) for name, columns in request["events"].items()}
    return Request(**{**request, "events": events})


@pytest.fixture(scope="module")
def trained(world_run):
    return open_trained(world_run.workdir)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    export(trained, out)
    return out


def of_another_model(trained, config, **changes):
    """Return a model with drawn weights in the place of the trained one."""
    schema = changes.get("schema", trained.schema)
    shapes = batch_shapes(schema, {s.name: s.max_len for s in config.model.streams}, 1)
    variables = factories.drawn_variables(create_model(config, schema), shapes)
    drawn = {"params": variables["params"], "tables": variables["tables"]["embedding"]}
    return dataclasses.replace(trained, config=config, **drawn, **changes)


@pytest.mark.parametrize(
    "python",
    [
        pytest.param(sys.executable, id="this_python"),
        pytest.param(
            OTHER_PYTHON,
            id="other_python",
            marks=pytest.mark.skipif(
                not OTHER_PYTHON, reason="KUNLUN_OTHER_PYTHON names no other Python"
            ),
        ),
    ],
)
@pytest.mark.parametrize("model", ["din", "kunlun"])
def test_scores_where_nothing_of_this_can_be_imported(
    trained, exported, requests, tmp_path, monkeypatch, python, model
):
    if model != trained.config.model.name:
        named = dataclasses.replace(trained.config.model, name=model)
        config = dataclasses.replace(trained.config, model=named)
        trained, exported = of_another_model(trained, config), tmp_path / "model"
        # Checks of types, which only tests have, know no size that is a symbol.
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        export(trained, exported)
    outcome = alone(exported, requests, python)
    assert outcome.returncode == 0, outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    found = np.array([[row[task] for task in trained.schema.labels] for row in rows])
    expected = Ranker(trained, buckets=[1]).predict([as_request(r) for r in requests])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert len(set(found[:, 0])) > 50


def test_makes_the_very_inputs_of_keys(trained, exported, requests):
    keys = Keys(trained.schema, trained.vocabularies)
    numbered = [keys.numbered(as_request(request), "request") for request in requests]
    batch = batch_requests(numbered, trained.schema, max_lens=trained.max_lens)
    assert_same(reader.load(exported).batch(requests), inputs_of(batch))


def test_makes_the_very_inputs_of_numbers(finished_runs, tmp_path):
    trained = open_trained(finished_runs[0])
    export(trained, tmp_path / "model")
    dataset = Dataset.open(finished_runs[0].parent / "data")
    requests = [request_of(dataset, "test", row) for row in range(40)]
    requests += [
        dataclasses.replace(requests[5], sparse={"item": value})
        for value in (None, [], -1, 2**40, [3, 4])
    ]
    batch = batch_requests(requests, trained.schema, max_lens=trained.max_lens)
    model = reader.load(tmp_path / "model")
    plain = [dataclasses.asdict(request) for request in requests]
    assert_same(model.batch(plain), inputs_of(batch))
    expected = Ranker(trained, buckets=[1]).predict(requests)
    np.testing.assert_allclose(model.predict(plain), expected, rtol=0, atol=1e-6)
    assert model.predict([]).shape == (0, 1)


def test_counts_what_a_build_counts(trained, tmp_path):
    tables = toy.counted(toy.toy_tables())
    dataset = toy.toy_dataset(tmp_path / "toy", tables=tables)
    config = experiment_config(own_data.get_config(str(tmp_path / "toy")))
    model = dataclasses.replace(config.model, name="din", count_features=True)
    counted = of_another_model(
        trained,
        dataclasses.replace(config, model=model),
        schema=dataset.schema,
        manifest=dataset.manifest,
        vocabularies={},
    )
    export(counted, tmp_path / "model")
    columns = {column.name for cross in toy.CROSS for column in cross.columns}
    requests = [request_of(dataset, "test", row) for row in range(len(dataset.splits["test"]))]
    requests = [
        dataclasses.replace(r, dense={n: x for n, x in r.dense.items() if n not in columns})
        for r in requests
    ]
    batch = batch_requests(requests, dataset.schema, max_lens=counted.max_lens)
    assert np.count_nonzero(batch.dense[:, 2:]) > 50
    plain = [dataclasses.asdict(request) for request in requests]
    assert_same(reader.load(tmp_path / "model").batch(plain), inputs_of(batch))


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def test_is_for_both_platforms_and_any_number_of_examples(exported):
    function = jax.export.deserialize(bytearray((exported / "model.bin").read_bytes()))
    assert function.platforms == ("cpu", "cuda")
    assert str(function.out_avals[0].shape) == "(b, 2)"


@pytest.mark.parametrize(
    "name",
    ["model.bin", "weights.bin", "reader.py", "vocabulary-000.json", "manifest.json"],
)
def test_a_flipped_bit_is_refused_in_one_line(exported, tmp_path, name):
    shutil.copytree(exported, tmp_path / "copy")
    file = tmp_path / "copy" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(reader.ExportError, match=rf"copy/{name}: (damaged|not the manifest)") as e:
        reader.load(tmp_path / "copy")
    assert "\n" not in str(e.value)


def test_the_program_says_so_in_one_line(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "weights.bin").unlink()
    outcome = alone(tmp_path / "copy", [])
    assert outcome.returncode == 1
    assert outcome.stderr == f"error: {tmp_path}/copy/weights.bin: No such file or directory\n"


def test_refuses_another_version(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    file = tmp_path / "copy" / "manifest.json"
    manifest = json.loads(file.read_text()) | {"format": 2}
    del manifest["sha256"]
    file.write_text(json.dumps({**manifest, "sha256": json_sha256(manifest)}))
    with pytest.raises(reader.ExportError, match="expected format 1, got 2"):
        reader.load(tmp_path / "copy")


def test_refuses_an_existing_folder(trained, exported):
    with pytest.raises(DatasetError, match="exists already"):
        export(trained, exported)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"time": 1, "dense": {"prise": 1}},
            r"0: dense: expected names of \['price', 'count",
        ),
        ({"time": 10**12}, "request 0: time: expected Unix seconds, got 1000000000000"),
        ({"time": 1, "dense": {"price": "x"}}, "'price': expected a number, got 'x'"),
        ({"time": 1, "sparse": {"item": 1.5}}, "sparse 'item': expected an id, an integer or text"),
        (
            {"time": 1, "events": {"view": {"times": [0], "ids": {"item": []}}}},
            "stream 'view': 'item': expected 1 values, got 0",
        ),
    ],
)
def test_refuses_what_can_only_be_a_mistake(exported, request_, message):
    with pytest.raises(reader.ExportError, match=message):
        reader.load(exported).predict([request_])
