"""Features that give their label away, and those that only look as if they did."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kunlun_jax.data import DenseFeature, Schema, SchemaError, SparseFeature, Vocabulary
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.quality.leaks import (
    LEAST_EXAMPLES,
    SAMPLE_SIZE,
    TrainingSample,
    auc,
    find_leaks,
    single_feature_aucs,
)
from kunlun_jax.data.quality.summary import Summary
from kunlun_jax.data.schema import Limits
from kunlun_jax.data.tables import Examples, Shard, SourceTables
from kunlun_jax.data.validate import validate
from tests.data import toy

ROWS, USERS = 8_000, 400
SCHEMA = Schema(
    name="leaks",
    vocabularies=(Vocabulary("value", 10**6),),
    dense=(DenseFeature("number"),),
    sparse=(SparseFeature("value", "value"), SparseFeature("tags", "value", max_values=3)),
    candidate=(),
    streams=(),
)


def sample_of(rng, *, number=None, value=None, tags=None, labels, users=None):
    """A sample of one shard; a value of -1 is none."""
    rows = len(labels)
    value = np.ones(rows) if value is None else value
    tags = np.zeros((rows, 3)) if tags is None else tags
    examples = Examples(
        users=(rng.integers(0, USERS, rows) if users is None else users).astype(np.int32),
        request_times=np.zeros(rows, np.int64),
        labels=labels.astype(np.float32)[:, None],
        weights=np.ones(rows, np.float32),
        dense=(np.zeros(rows) if number is None else number).astype(np.float32)[:, None],
        sparse={
            "value": np.maximum(value, 0).astype(np.int32)[:, None],
            "tags": tags.astype(np.int32),
        },
        sparse_lengths={
            "value": (value >= 0).astype(np.int32),
            "tags": (tags > 0).sum(axis=1).astype(np.int32),
        },
        ends={},
    )
    found = TrainingSample()
    tables = SourceTables(SCHEMA, USERS, {}, {"train": examples}, {})
    found.add(Shard(tables, np.arange(rows, dtype=np.int32), {}))
    return found


def aucs(sample):
    return {name: area for name, _, area in single_feature_aucs(SCHEMA, sample)}


def test_a_category_that_knows_the_label(rng, labels):
    status = np.where(labels, 7, rng.integers(1, 6, ROWS))
    noisy = np.where(rng.random(ROWS) < 0.005, rng.integers(1, 8, ROWS), status)
    assert aucs(sample_of(rng, value=noisy, labels=labels))["value"] > 0.99


def test_a_thousand_pages_of_which_each_has_one_label(rng, labels):
    pages = 2 * rng.integers(1, 1000, ROWS) + labels
    assert aucs(sample_of(rng, value=pages, labels=labels))["value"] > 0.97


def test_a_value_that_only_positives_have(rng, labels):
    order_ids = np.where(labels, np.arange(ROWS), -1)
    assert aucs(sample_of(rng, value=order_ids, labels=labels))["value"] == 1.0


def test_a_tag_of_positives_among_others(rng, labels):
    tags = np.stack([rng.integers(1, 6, ROWS), np.where(labels, 9, 8), np.zeros(ROWS)], axis=1)
    assert aucs(sample_of(rng, tags=tags, labels=labels))["tags"] > 0.98


def test_a_number_that_is_the_label_with_noise_or_between_those_of_negatives(rng, labels):
    noisy = labels + rng.normal(0.0, 0.2, ROWS)
    assert aucs(sample_of(rng, number=noisy, labels=labels))["number"] > 0.98
    between = np.where(labels, rng.uniform(4, 5, ROWS), rng.choice([1.0, 9.0], ROWS))
    assert aucs(sample_of(rng, number=between, labels=labels))["number"] > 0.99


def test_ids_seen_once_know_nothing_of_the_other_half(rng, labels):
    assert aucs(sample_of(rng, value=np.arange(1, ROWS + 1), labels=labels))["value"] == 0.5


def test_users_with_one_label_each_are_no_leak(rng):
    users = rng.integers(0, USERS, ROWS)
    labels = users % 5 == 0
    found = aucs(sample_of(rng, value=users + 1, labels=labels, users=users))
    assert found["value"] == 0.5


def test_a_strong_but_honest_feature_is_below_the_default(rng):
    number = rng.normal(size=ROWS)
    labels = rng.random(ROWS) < 1 / (1 + np.exp(2 - 3 * number))
    found = aucs(sample_of(rng, number=number, labels=labels))
    assert 0.85 < found["number"] < Limits().single_feature_auc
    assert found["tags"] == 0.5


def test_few_examples_of_a_label_say_nothing(rng):
    labels = np.zeros(ROWS, bool)
    labels[: LEAST_EXAMPLES + 5] = True
    assert aucs(sample_of(rng, value=labels + 1, labels=labels)) == {}


def test_the_limit_is_the_schemas_and_the_line_names_the_column(rng, labels):
    sample = sample_of(rng, value=labels + 1, labels=labels)
    sums = {"positives/train/click": 0, "rows/train": ROWS}
    (leak,) = find_leaks(SCHEMA, Summary(sums, {}), sample)
    assert leak.stream == ""
    assert leak.line == (
        "split 'train': column 'value': leak of label 'click': expected this column alone to reach "
        "an AUC of at most 0.98 on users that it was not fitted to, got 1.0000"
    )
    lenient = dataclasses.replace(SCHEMA, limits=Limits(single_feature_auc=1.0))
    assert list(find_leaks(lenient, Summary(sums, {}), sample)) == []


def test_auc_is_that_of_scikit_learn(rng):
    scores, positive = rng.integers(0, 9, 500) / 9, rng.random(500) < 0.3
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_a_sample_is_full_at_its_size(rng):
    sample = sample_of(rng, labels=np.zeros(SAMPLE_SIZE + 10, bool))
    assert sample.is_full
    assert len(sample.column("users")) == SAMPLE_SIZE


def test_build_and_validation_find_a_category_that_knows_the_label(tmp_path):
    tables = toy.toy_tables()
    for examples in tables.splits.values():
        examples.sparse["item"][:] = 1 + examples.labels[:, :1].astype(np.int32)
    source = {"name": "toy", "version": 1, "options": {}}
    with pytest.raises(SchemaError, match="column 'item': leak of label 'click': expected this"):
        write_dataset(tables, tmp_path / "toy", source=source)
    limits = Limits(single_feature_auc=1.0, drift=9.0, duplicate_share=0.5)
    tables = dataclasses.replace(tables, schema=dataclasses.replace(tables.schema, limits=limits))
    write_dataset(tables, tmp_path / "toy", source=source)
    assert not [line for line in validate(tmp_path / "toy").findings if "leak" in line]
