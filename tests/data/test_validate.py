import dataclasses
import json
import pathlib

import numpy as np
import pytest

from kunlun_jax.data import Dataset
from kunlun_jax.data.build import write_dataset
from kunlun_jax.data.manifest import MANIFEST, manifest_checksum
from kunlun_jax.data.quality.card import write_card
from kunlun_jax.data.quality.profile import quantile, stability_index
from kunlun_jax.data.schema import Limits, Schema
from kunlun_jax.data.validate import validate
from tests.data import toy
from tests.processes import run_python

ROOT = pathlib.Path(__file__).parents[2]
# The toy's items are out of vocabulary now and then, and its later requests have more history.
LIMITS = Limits(drift=2.0, duplicate_share=0.02)
SOURCE = {"name": "toy", "version": 1, "options": {}}


def built(directory, change=None, **limits):
    """A toy data set, changed before it is written, with its limits."""
    tables = toy.toy_tables()
    schema = dataclasses.replace(tables.schema, limits=dataclasses.replace(LIMITS, **limits))
    tables = dataclasses.replace(tables, schema=schema)
    if change is not None:
        change(tables)
    write_dataset(tables, directory, source=SOURCE, num_shards=2)
    return directory


def findings(directory, **options):
    return validate(directory, **options).findings


def test_the_toy_has_no_findings(tmp_path):
    assert findings(built(tmp_path / "toy")) == []


def constant(tables):
    for examples in tables.splits.values():
        examples.dense[:, 1] = 7.0


def exploding(tables):
    tables.splits["test"].dense[3, 1] = 1e9


def missing(tables):
    tables.splits["validation"].dense[:, 0] = np.nan


def unknown(tables):
    tables.splits["test"].sparse["item"][:] = 0


def drifting(tables):
    tables.splits["test"].dense[:, 1] += 30


def duplicated(tables):
    test = tables.splits["test"]
    half = np.arange(len(test)) // 2
    tables.splits["test"] = test.take(half)


def no_histories(tables):
    for examples in tables.splits.values():
        examples.ends["visit"][:] = 0


def weightless(tables):
    tables.splits["validation"].weights[:] = 0.0


def one_class_by_weight(tables):
    train = tables.splits["train"]
    train.weights[train.labels[:, 1] > 0] = 0.0


def one_class(tables):
    tables.splits["train"].labels[:, 1] = 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (constant, "train: column 'hour': expected different values, all are 7"),
        (exploding, "test: column 'hour': expected values within 100 standard deviations"),
        (missing, "validation: column 'price': expected at most 99.00% of examples without a"),
        (unknown, "test: column 'item': expected at most 50.00% of ids out of vocabulary, got 100"),
        (drifting, "test: column 'hour': expected a distribution near training's"),
        (duplicated, "test: expected at most 2.00% of examples that repeat another, got"),
        (no_histories, "stream 'visit': expected events before training requests, got none"),
        (one_class, "train: label 'buy': expected a mean of 0.0001 .. 0.9999, got 0"),
        (one_class_by_weight, "train: label 'buy': expected a mean of 0.0001 .. 0.9999, got 0"),
        (weightless, "validation: expected examples with a weight above 0, got none of 37"),
    ],
)
def test_findings(tmp_path, change, message):
    found = findings(built(tmp_path / "toy", change))
    assert [line for line in found if line.startswith(message)], found


def test_times_after_now(tmp_path):
    found = findings(built(tmp_path / "toy"), now=float(toy.START))
    assert "test: expected no time after now" in "\n".join(found)


def test_limits_come_from_the_schema(tmp_path):
    strict = findings(built(tmp_path / "toy", oov_share=0.01))
    assert [line for line in strict if "expected at most 1.00% of ids out of vocab" in line]
    manifest = json.loads((tmp_path / "toy" / MANIFEST).read_text())
    assert Schema.from_json(manifest["schema"]).limits.oov_share == 0.01


def test_contradictions_name_file_row_and_column(tmp_path):
    directory = built(tmp_path / "toy")
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["schema"]["vocabularies"][0]["num_ids"] = 12
    manifest["manifest_sha256"] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    found = findings(directory)
    assert len(found) == 2, found
    assert [line for line in found if "shard-00000-of-00002.arrayrecord: stream 'click'" in line]
    assert all("item: " in line and "an id outside 0 .. 12, first:" in line for line in found)


def test_damaged_files_are_findings_and_the_others_are_still_read(tmp_path):
    directory = built(tmp_path / "toy")
    shard = sorted(directory.glob("*.arrayrecord"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    report = validate(directory)
    assert f"{shard}: damaged: expected SHA-256" in "\n".join(report.findings)
    assert report.summary is not None
    assert 0 < report.summary.sums["users"] < 9


def test_the_card_holds_the_numbers_of_the_data(tmp_path):
    directory = built(tmp_path / "toy")
    report = validate(directory)
    card = write_card(report, tmp_path / "card")
    text = card.read_text()
    train = Dataset.open(directory).splits["train"]
    rate = f"{np.average(train.labels[:, 0], weights=train.weights):.1%}"
    assert f"| train | 203 | {rate} |" in text
    empty = f"{(train.ends['visit'] == 0).mean():.1%}"
    median = int(np.quantile(np.minimum(train.ends["visit"], 4), 0.5, method="inverted_cdf"))
    row = next(line for line in text.splitlines() if line.startswith("| `visit` |"))
    assert row.split("|")[3].strip() == empty
    assert row.split("|")[5].strip() == str(median)
    assert (tmp_path / "card" / "distributions.png").read_bytes().startswith(b"\x89PNG")


def test_command_line(tmp_path):
    directory = built(tmp_path / "toy", oov_share=0.01)
    result = run_python("-m", "kunlun_jax.data.validate", directory)
    assert result.returncode == 1, result.stderr
    assert "expected at most 1.00% of ids out of vocabulary" in result.stdout
    assert (directory / "card" / "README.md").exists()
    assert Dataset.open(directory).num_users == 9


def test_stability_index():
    left = np.array([50, 30, 20])
    assert stability_index(left, left) == 0.0
    assert stability_index(left, np.zeros(3, int)) == 0.0
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    expected = ((p - q) * np.log(p / q)).sum()
    assert stability_index(p * 10**6, q * 10**6) == pytest.approx(expected, abs=1e-3)
    rng = np.random.default_rng(0)
    samples = [np.bincount(rng.integers(40, size=400), minlength=40) for _ in range(20)]
    noise = [stability_index(a, b) for a, b in zip(samples[::2], samples[1::2], strict=True)]
    assert max(noise) < 0.15


@pytest.mark.parametrize(("share", "expected"), [(0.1, 0), (0.5, 2), (0.9, 3), (1.0, 3)])
def test_quantile(share, expected):
    assert quantile(np.array([2, 1, 3, 4]), share) == expected
