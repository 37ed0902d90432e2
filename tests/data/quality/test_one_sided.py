"""Frequent values that come with one label only, and those that chance or few users explain."""

import dataclasses

import numpy as np
import pytest

from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.quality.one_sided import find_one_sided
from kunlun_jax.data.schema import Limits
from kunlun_jax.data.validate import validate
from tests.data import toy
from tests.data.quality.test_leaks import ROWS, SCHEMA, USERS, sample_of

SOURCE = {"name": "toy", "version": 1, "options": {}}


def found(sample, schema=SCHEMA):
    return [(f.feature, f.value, f.label, f.support) for f in find_one_sided(schema, sample)]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("feature", ["number", "value", "tags"])
def test_a_value_that_implies_a_label(rng, labels, feature, label):
    bulk = (labels == label) & (rng.random(ROWS) < 0.3)
    column = np.where(bulk, 7, rng.integers(1, 6, ROWS))
    if feature == "tags":
        column = np.stack([rng.integers(1, 6, ROWS), column, column], axis=1)
    sample = sample_of(rng, labels=labels, **{feature: column})
    assert found(sample) == [(feature, 7, label, bulk.sum())]


@pytest.mark.parametrize("feature", ["number", "value"])
def test_no_value_is_a_value(rng, labels, feature):
    bulk = labels & (rng.random(ROWS) < 0.5)
    nothing = np.nan if feature == "number" else -1
    sample = sample_of(rng, labels=labels, **{feature: np.where(bulk, nothing, 1.0)})
    assert found(sample) == [(feature, None, 1, bulk.sum())]


def test_what_chance_or_few_users_explain_is_not_told(rng, labels):
    ids = rng.integers(1, 2000, ROWS)
    assert found(sample_of(rng, labels=labels, value=ids, number=rng.normal(size=ROWS))) == []
    rare = rng.random(ROWS) < 0.002
    assert found(sample_of(rng, labels=rare, value=rng.integers(1, 20, ROWS))) == []
    users = rng.integers(0, USERS, ROWS)
    theirs = np.where(users < 15, 1, 2)  # fifteen users, who never do
    never = labels & (users >= 15)
    assert found(sample_of(rng, labels=never, value=theirs, users=users)) == []
    assert found(sample_of(rng, labels=np.zeros(ROWS, bool), value=theirs)) == []


def test_one_exception_is_enough(rng, labels):
    bulk = np.where(labels & (rng.random(ROWS) < 0.5), 7, 1)
    bulk[np.flatnonzero(~labels)[0]] = 7
    assert found(sample_of(rng, labels=labels, value=bulk)) == []


def test_the_schema_says_what_is_frequent(rng, labels):
    bulk = np.where(labels & (rng.random(ROWS) < 0.5), 7, 1)
    sample = sample_of(rng, labels=labels, value=bulk)
    strict = dataclasses.replace(SCHEMA, limits=Limits(one_sided_share=0.5))
    assert found(sample) != []
    assert found(sample, strict) == []


def test_the_line_has_the_support_and_is_in_manifest_validation_and_card(tmp_path):
    from kunlun_jax.data.manifest import read_manifest
    from kunlun_jax.data.quality.card import write_card

    tables = toy.toy_tables(toy.Options(num_users=90, num_train=2000))
    for examples in tables.splits.values():
        buys = examples.labels[:, 1] > 0
        examples.dense[:, 1] = np.where(buys & (np.arange(len(buys)) % 2 == 0), 99.0, 5.0)
    limits = Limits(drift=9.0, duplicate_share=0.5)
    tables = dataclasses.replace(tables, schema=dataclasses.replace(tables.schema, limits=limits))
    write_dataset(tables, tmp_path / "toy", source=SOURCE)
    support = int((tables.splits["train"].dense[:, 1] == 99).sum())
    for task in ("click", "buy"):
        line = (
            f"split 'train': column 'hour': expected both values of label '{task}' beside value "
            f"99, got 1 in all {support} of its examples ({support / 2000:.1%} of 2,000)"
        )
        assert line in read_manifest(tmp_path / "toy")["findings"]
        report = validate(tmp_path / "toy")
        assert line in report.findings
        assert line in write_card(report, tmp_path / "card").read_text()
