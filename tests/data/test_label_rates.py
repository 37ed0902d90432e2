import dataclasses
import json

import numpy as np
import pytest

from kunlun_jax.data import Dataset, DatasetError
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.label_rates import training_rate
from kunlun_jax.data.manifest import MANIFEST, manifest_checksum
from kunlun_jax.data.tables import SPLITS
from tests.data import toy

SOURCE = {"name": "toy", "version": "1", "options": {"seed": 0}}


def built(directory, weigh, num_shards=2):
    """Build the toy data set with the weights that a function of the examples returns."""
    tables = toy.toy_tables()
    splits = {
        name: dataclasses.replace(part, weights=weigh(name, part).astype(np.float32))
        for name, part in tables.splits.items()
    }
    tables = dataclasses.replace(tables, splits=splits)
    write_dataset(tables, directory, source=SOURCE, num_shards=num_shards)
    return Dataset.open(directory)


def undo_sampling(_, examples):
    return np.where(examples.labels[:, 1] > 0, 1.0, 20.0)


def mostly_zero(_, examples):
    return np.random.default_rng(0).choice([0.0, 0.0, 2.5, 1e-3], len(examples))


@pytest.mark.parametrize("weigh", [undo_sampling, mostly_zero])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_dataset_json_and_the_opened_data_set_have_the_weighted_means(tmp_path, weigh, num_shards):
    dataset = built(tmp_path / "toy", weigh, num_shards)
    for split in SPLITS:
        examples = dataset.splits[split]
        weights = examples.weights.astype(np.float64)
        for i, task in enumerate(toy.SCHEMA.labels):
            labels = examples.labels[:, i].astype(np.float64)
            expected = (weights * labels).sum() / weights.sum()
            assert abs(expected - labels.mean()) > 1e-3
            assert dataset.manifest["label_rates"][split][task] == pytest.approx(expected)
            assert dataset.label_rates[split][task] == pytest.approx(expected, rel=1e-12)


def test_weights_of_one_give_the_share_of_positives_to_the_last_bit(tmp_path):
    dataset = built(tmp_path / "toy", lambda _, examples: np.ones(len(examples)))
    train = dataset.splits["train"]
    shares = {
        task: int(train.labels[:, i].sum()) / len(train) for i, task in enumerate(toy.SCHEMA.labels)
    }
    assert dataset.label_rates["train"] == dataset.manifest["label_rates"]["train"] == shares


def test_what_an_earlier_version_recorded_is_not_trusted(tmp_path):
    expected = built(tmp_path / "toy", undo_sampling).label_rates
    path = tmp_path / "toy" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["label_rates"] = {name: {"click": 0.9, "buy": 0.9} for name in SPLITS}
    manifest["manifest_sha256"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    assert Dataset.open(tmp_path / "toy").label_rates == expected


def test_a_split_without_weight_has_no_rate(tmp_path):
    dataset = built(tmp_path / "toy", lambda name, x: np.full(len(x), float(name != "test")))
    assert dataset.label_rates["test"] == {"click": None, "buy": None}
    assert dataset.manifest["label_rates"]["test"] == {"click": None, "buy": None}
    assert None not in dataset.label_rates["train"].values()


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (None, "here: split 'train': expected examples with a weight above 0, got none"),
        (0.0, r"here: expected training labels 'buy' of both classes, got a mean of 0\.0"),
        (1.0, "of both classes, got a mean of 1.0, weighted"),
    ],
)
def test_a_rate_without_entropy_is_refused(rate, message):
    with pytest.raises(DatasetError, match=message):
        training_rate({"buy": rate}, "buy", "here")
