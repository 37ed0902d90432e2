"""The worked examples of docs/data.md, and the configuration of tables of one's own."""

import functools
import itertools
import json
import pathlib
import random
import shutil

import numpy as np
import pytest

from configs import own_data
from kunlun_jax.config import experiment_config
from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.build import build_own_data
from kunlun_jax.data.manifest import manifest_checksum
from kunlun_jax.data.own_data import ByUser, Events, TableSchema, load_schema
from kunlun_jax.data.own_data.inputs import Inputs
from kunlun_jax.training.run import open_dataset
from kunlun_jax.training.summary import cut_histories, format_table, padding_table
from tests.documents import ROOT, blocks
from tests.processes import run_python

SHOP = pathlib.Path("tests") / "data" / "shop"
# The example's own sizes take minutes to compile on a busy machine; the parts are the same.
SMALL = (
    "--config.model.num_layers=1",
    "--config.model.dim=8",
    "--config.model.n_sum=2",
    "--config.model.head_dims=(8,)",
    "--config.model.pooling.rank=2",
    "--config.model.wukong.fm_rank=2",
    "--config.model.wukong.mlp_dim=8",
    "--config.model.streams.view.num_layers=1",
    "--config.model.streams.view.n_tokens=2",
    "--config.model.streams.view.n_seeds=4",
    "--config.model.streams.view.max_len=8",
    "--config.data.batch_size=32",
)


@pytest.fixture(scope="module")
def run(compilation_cache):
    variables = {"JAX_COMPILATION_CACHE_DIR": str(compilation_cache)}
    return functools.partial(run_python, variables=variables)


@pytest.mark.slow
def test_from_csv_to_a_checkpoint_with_two_commands(run, tmp_path):
    """In the source tree; tests/test_wheel.py does it from a wheel."""
    built = run(
        "-m",
        "kunlun_jax.data.build",
        f"--schema={SHOP / 'my_schema.py'}",
        f"--impressions={SHOP / 'impressions.csv'}",
        f"--events={SHOP / 'views.csv'}",
        f"--out={tmp_path / 'shop'}",
    )
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["rows"] == {"train": 320, "validation": 40, "test": 40}
    # Its counts grow with the log, which begins with the examples: no finding.
    validated = run("-m", "kunlun_jax.data.validate", str(tmp_path / "shop"))
    assert validated.returncode == 0 and "0 findings" in validated.stdout, validated.stdout
    config = f"--config=configs/own_data.py:{tmp_path / 'shop'}"
    trained = run("train.py", config, f"--workdir={tmp_path / 'run'}", *SMALL)
    assert trained.returncode == 0, trained.stderr
    assert "best checkpoint: step 10" in trained.stdout
    assert list((tmp_path / "run" / "checkpoints").rglob("10"))


def test_the_schema_has_fewer_than_ten_lines():
    assert len((ROOT / SHOP / "my_schema.py").read_text().splitlines()) < 10


def test_without_a_data_set_the_run_says_so(tmp_path):
    config = experiment_config(own_data.get_config(str(tmp_path / "nowhere")))
    with pytest.raises(DatasetError, match="nowhere: no data set here"):
        open_dataset(config.data)


def write_csv(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def build(schema, directory, out, **tables):
    """Build a data set from CSV files of a directory, in this process."""
    events = [f"{name}={directory / file}" for name, file in tables.items()]
    inputs = Inputs.parse(schema, str(directory / "impressions.csv"), events)
    build_own_data(schema, inputs, out)
    return Dataset.open(out)


def test_the_documented_schema_of_other_names_and_two_labels(tmp_path):
    first, second = blocks("docs/data.md", "## Tables of your own", "python")
    assert first == (ROOT / SHOP / "my_schema.py").read_text()
    (tmp_path / "schema.py").write_text(second)
    schema = load_schema(tmp_path / "schema.py")
    chance = random.Random(0)
    products = [f"p{i}" for i in range(12)]
    shown, log = [], []
    for customer, day in itertools.product(range(30), range(10)):
        product, at = chance.choice(products), 1_700_000_000 + 86_400 * day + customer
        click, order = chance.randrange(2), chance.randrange(2)
        price = round(chance.uniform(1, 99), 2)
        brand = f"b{int(product[1:]) % 3}"
        tags = "|".join(chance.sample(["new", "sale", "eco"], chance.randrange(3)))
        shown.append(
            (f"c{customer}", at, click, order, product, brand, tags, chance.randint(1, 5), price)
        )
        kind = "order" if day % 5 == 4 else "view"
        log.append((f"c{customer}", at + 60, kind, product, brand, round(price)))
    header = "customer,shown_at,click,order,product,brand,tags,rating,price"
    write_csv(tmp_path / "impressions.csv", header, shown)
    write_csv(tmp_path / "log.csv", "customer,at,kind,product,brand,amount", log)
    dataset = build(schema, tmp_path, tmp_path / "set", view="log.csv", order="log.csv")
    assert dataset.manifest["counts"] == {
        "users": 30,
        "events": {"view": 240, "order": 60},
        "rows": {"train": 240, "validation": 30, "test": 30},
    }
    found, train = dataset.schema, dataset.splits["train"]
    assert found.labels == ("click", "order")
    assert [feature.name for feature in found.dense[:2]] == ["rating", "price"]
    assert [feature.log1p for feature in found.dense[:2]] == [False, True]
    early = [row for row in shown if row[1] < 1_700_000_000 + 86_400 * 7.5]
    assert train.labels.sum(axis=0).tolist() == [sum(row[i] for row in early) for i in (2, 3)]
    config = experiment_config(own_data.get_config(str(tmp_path / "set")))
    assert {stream.name for stream in config.model.streams} == {"view", "order"}


class TestLengths:
    """Of the histories of configs/own_data.py, and the warning where events are cut."""

    @pytest.fixture(scope="class")
    @classmethod
    def long(cls, tmp_path_factory):
        """Histories of 40 events: 90 users; of 300: 10 users; data offer 256."""
        place = tmp_path_factory.mktemp("long")
        start = 1_700_000_000
        impressions, events = [], []
        for user in range(100):
            count = 300 if user < 10 else 40
            events += [(user, start + i, i % 7) for i in range(count)]
            impressions += [
                (user, start + 1_000 + 60 * i, (user + i) % 2, i % 7) for i in range(10)
            ]
        write_csv(place / "impressions.csv", "user,time,label,item", impressions)
        write_csv(place / "views.csv", "user,time,item", events)
        schema = TableSchema(
            name="long",
            sparse=("item",),
            candidate=("item",),
            streams=(Events("view", ids=("item",)),),
            split=ByUser(0.1, 0.1, seed=1),
        )
        return build(schema, place, place / "set", view="views.csv")

    def test_nine_of_ten_histories_are_whole(self, long):
        ends = long.splits["train"].ends["view"]
        share = (ends <= 48).mean()
        assert long.manifest["histories_within"]["view"]["48"] == share
        expected = 48 if share >= 0.9 else 256
        assert own_data.get_config(str(long.directory)).model.streams.view.max_len == expected

    @pytest.mark.parametrize(
        ("within", "offered", "expected"),
        [
            ({"8": 0.2, "64": 0.9, "96": 1.0}, 256, 64),
            ({"8": 0.2, "64": 0.89, "96": 0.9}, 256, 96),
            ({"8": 0.95, "64": 1.0}, 256, 8),
            ({"8": 0.0, "256": 0.5}, 4096, 256),  # most histories are longer
            ({"8": 0.0, "64": 0.9}, 50, 50),  # no more than the data offer
            ({"8": None, "64": None}, 100, 100),  # no training examples
            ({}, 100, 100),  # a data set that does not say
            ({}, 1000, 256),
        ],
    )
    def test_is_the_least_that_covers_them(self, within, offered, expected):
        assert own_data._max_len(within, offered) == expected

    def test_a_data_set_from_before_offers_what_it_offers(self, long, tmp_path):
        shutil.copytree(long.directory, tmp_path / "old")
        manifest = json.loads((tmp_path / "old" / "dataset.json").read_text())
        del manifest["histories_within"]
        manifest["manifest_sha256"] = manifest_checksum(manifest)
        (tmp_path / "old" / "dataset.json").write_text(json.dumps(manifest))
        assert own_data.get_config(str(tmp_path / "old")).model.streams.view.max_len == 256

    def test_a_run_that_leaves_out_many_events_says_so(self, long):
        offered = np.minimum(long.splits["train"].ends["view"], 256)
        lost = 1 - np.minimum(offered, 40).sum() / offered.sum()
        assert lost > 0.1
        assert cut_histories(long, {"view": 40}) == [
            f"warning: stream view: max_len 40 leaves out {lost:.0%} of the events that training "
            "is offered; --config.model.streams.view.max_len=256 takes all"
        ]
        padding = 1 - np.minimum(offered, 40).mean() / 40
        row = format_table(*padding_table(long, {"view": 40})).splitlines()[-1].split()
        assert row == ["view", "40", f"{padding:.1%}", f"{(offered == 0).mean():.1%}"]
        assert cut_histories(long, {"view": 256}) == []
        assert cut_histories(long, {"view": 240}) == []  # less than a tenth
